# Run as a script, joins TEMPLATE, STYLE and SCRIPTS (by `|`) into one page at OUT, and writes OUT.c: NAME, the
# policy by which a browser runs just this style and just these scripts.
if(CMAKE_SCRIPT_MODE_FILE)
	cmake_minimum_required(VERSION 3.21) # else @STYLE@ would be a variable
	function(base64_of_hex hex ret)
		set(letters ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/)
		string(LENGTH "${hex}" digits)
		math(EXPR last "${digits} - 1")
		set(text "")
		foreach(i RANGE 0 ${last} 6) # three bytes, four letters
			string(SUBSTRING "${hex}000000" ${i} 6 group)
			foreach(shift 18 12 6 0)
				math(EXPR letter "(0x${group} >> ${shift}) & 63")
				string(SUBSTRING ${letters} ${letter} 1 letter)
				string(APPEND text ${letter})
			endforeach()
		endforeach()
		string(LENGTH "${text}" length)
		math(EXPR whole "(${digits} * 2 + 2) / 3") # letters that carry bits
		math(EXPR pad "${length} - ${whole}")
		string(SUBSTRING "${text}" 0 ${whole} text)
		string(REPEAT "=" ${pad} pad)
		set(${ret} ${text}${pad} PARENT_SCOPE)
	endfunction()

	file(READ "${TEMPLATE}" page)
	file(READ "${STYLE}" style)
	set(script "")
	string(REPLACE "|" ";" SCRIPTS "${SCRIPTS}")
	foreach(file IN LISTS SCRIPTS)
		file(READ "${file}" text)
		string(APPEND script "${text}")
	endforeach()
	string(SHA256 style_hash "${style}")
	string(SHA256 script_hash "${script}")
	base64_of_hex(${style_hash} style_hash)
	base64_of_hex(${script_hash} script_hash)
	string(REPLACE "@STYLE@" "${style}" page "${page}")
	string(REPLACE "@SCRIPT@" "${script}" page "${page}")
	file(WRITE "${OUT}" "${page}")
	file(WRITE "${OUT}.c" "extern const char ${NAME}[];\nconst char ${NAME}[] =\n"
		"\t\"default-src 'none'; style-src 'sha256-${style_hash}'; script-src 'sha256-${script_hash}'; \"\n"
		"\t\"connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \"\n"
		"\t\"require-trusted-types-for 'script'; trusted-types 'none'\";\n")
	return()
endif()

set(MAAS_PAGE ${CMAKE_CURRENT_LIST_FILE})
# maas_page(TARGET NAME TEMPLATE STYLE SCRIPT...) embeds the page as NAME_html (maas_embed) and its policy as
# NAME_policy. The page itself is NAME.html in the build directory.
function(maas_page target name template style)
	set(out ${CMAKE_CURRENT_BINARY_DIR}/${name}.html)
	list(TRANSFORM ARGN PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/)
	list(JOIN ARGN "|" scripts)
	add_custom_command(OUTPUT ${out} ${out}.c VERBATIM
		DEPENDS ${template} ${style} ${ARGN} ${MAAS_PAGE}
		COMMAND ${CMAKE_COMMAND} -D TEMPLATE=${CMAKE_CURRENT_SOURCE_DIR}/${template}
			-D STYLE=${CMAKE_CURRENT_SOURCE_DIR}/${style} "-DSCRIPTS=${scripts}" -D NAME=${name}_policy
			-D OUT=${out} -P ${MAAS_PAGE})
	target_sources(${target} PRIVATE ${out}.c)
	maas_embed(${target} ${name}_html ${out})
endfunction()
