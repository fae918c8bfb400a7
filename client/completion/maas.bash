# shellcheck shell=bash disable=SC2207
# bash completion for maas(1)

_maas() {
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} options
	local common='--url --timeout --json --help'
	if [ "$COMP_CWORD" = 1 ]; then
		COMPREPLY=($(compgen -W 'health stats alloc free put get ls top bench doctor --help --version' -- "$word"))
		return
	fi
	case $before in
	--url) return ;;
	--transport)
		COMPREPLY=($(compgen -W 'auto rdma http' -- "$word"))
		return
		;;
	--timeout | --count | --ttl | --offset | --length | --interval | --size | --threads | --time) return ;;
	esac
	case ${COMP_WORDS[1]} in
	alloc) options='--count --owner --ttl --request-id' ;;
	free | ls) options='--owner' ;;
	put) options='--owner --ttl --offset --transport' ;;
	get) options='--offset --length --transport' ;;
	top) options='--count --interval' ;;
	bench) options='--size --threads --count --time --hold --transport' ;;
	*) options='' ;;
	esac
	if [[ $word == -* ]]; then
		COMPREPLY=($(compgen -W "$options $common" -- "$word"))
		return
	fi
	case ${COMP_WORDS[1]} in
	free | put | get)
		# An id first, as the server lists them; then, but for free, a file. Of put a file alone, too.
		if [ "$COMP_CWORD" = 2 ] || [ "${COMP_WORDS[1]}" = free ]; then
			COMPREPLY=($(compgen -W "$(maas ls --timeout 2 2>/dev/null | awk 'NR > 1 { print $1 }' | head -n 1000)" -- "$word"))
		fi
		if [ "${COMP_WORDS[1]}" = put ] || { [ "${COMP_WORDS[1]}" = get ] && [ "$COMP_CWORD" != 2 ]; }; then
			COMPREPLY+=($(compgen -f -- "$word"))
		fi
		;;
	esac
}
complete -F _maas maas
