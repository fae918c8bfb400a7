# One target that every library and program of ours links: warnings, sanitizers and the include
# root. -iquote, not -I: our rdma/ must not shadow the system's <rdma/...>.
add_library(maas_warnings INTERFACE)
target_compile_options(maas_warnings INTERFACE
	-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith
	-Wcast-qual -Wwrite-strings -Wformat=2 -Wundef -Wvla -Wconversion -Wsign-conversion
	-iquote ${PROJECT_SOURCE_DIR}
	$<$<BOOL:${MAAS_WERROR}>:-Werror>)
target_compile_definitions(maas_warnings INTERFACE _GNU_SOURCE)
if(MAAS_SANITIZE)
	target_compile_options(maas_warnings INTERFACE
		-fsanitize=${MAAS_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
	target_link_options(maas_warnings INTERFACE -fsanitize=${MAAS_SANITIZE})
endif()

# maas_library(DIR SOURCE... ) makes the static library maas_DIR of one directory.
function(maas_library dir)
	add_library(maas_${dir} STATIC ${ARGN})
	target_link_libraries(maas_${dir} PRIVATE maas_warnings)
endfunction()
