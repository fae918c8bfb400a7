# Run as a script, writes OUT: C code that defines the bytes of FILE as NAME and NAME_len.
if(CMAKE_SCRIPT_MODE_FILE)
	file(READ "${FILE}" bytes HEX)
	string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
	file(WRITE "${OUT}" "#include <stddef.h>\n"
		"extern const unsigned char ${NAME}[];\nextern const size_t ${NAME}_len;\n"
		"const unsigned char ${NAME}[] = {${bytes}};\nconst size_t ${NAME}_len = sizeof(${NAME});\n")
	return()
endif()

set(MAAS_EMBED ${CMAKE_CURRENT_LIST_FILE})
# maas_embed(TARGET NAME FILE) puts the bytes of FILE into TARGET.
function(maas_embed target name file)
	set(out ${CMAKE_CURRENT_BINARY_DIR}/${name}.c)
	add_custom_command(OUTPUT ${out} DEPENDS ${file} ${MAAS_EMBED} VERBATIM
		COMMAND ${CMAKE_COMMAND} -D FILE=${file} -D NAME=${name} -D OUT=${out} -P ${MAAS_EMBED})
	target_sources(${target} PRIVATE ${out})
endfunction()
