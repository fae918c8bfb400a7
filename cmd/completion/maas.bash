# shellcheck shell=bash
# bash completion for maas(1)

# The ids that the server lists which the command line names.
_maas_ids() {
	local server=() option value
	for option in --url --token-file --ca-file --cert-file --key-file --server-name; do
		[[ ! $COMP_LINE =~ [[:blank:]]${option}[=[:blank:]]+([^[:blank:]]+) ]] || {
			value=${BASH_REMATCH[1]}
			server+=("$option" "${value/#\~\//$HOME/}")
		}
	done
	maas ls --timeout 2 "${server[@]}" 2>/dev/null | awk 'NR > 1 { print $1 }' | head -n 1000
}

# Completes what an option takes. Readline splits it: --url http://host:3000 comes as six words.
_maas_value() {
	local words=''
	[ "$2" != --transport ] || words='auto rdma http'
	[[ $2 != --*-file && $2 != --output ]] || compopt -o default
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "${1#=}")
}

_maas() {
	local word=${COMP_WORDS[COMP_CWORD]} command='' arguments=0 option words i
	COMPREPLY=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		option=${COMP_WORDS[i]}
		case $option in
		--json | --help | --version | --hold | --no-owner) continue ;;
		--*) ;;
		*)
			if [ -z "$command" ]; then command=$option; else arguments=$((arguments + 1)); fi
			continue
			;;
		esac
		i=$((i + 1))
		[ "${COMP_WORDS[i]}" != = ] || [ "$i" = "$COMP_CWORD" ] || i=$((i + 1))
		while [ "$i" -lt "$COMP_CWORD" ] && [[ ${COMP_WORDS[i + 1]} == :* ]]; do i=$((i + 2)); done
		if [ "$i" -ge "$COMP_CWORD" ]; then
			_maas_value "$word" "$option"
			return
		fi
	done
	case $command in
	'') words='health stats alloc free put get ls top bench doctor prometheus token whoami --version' ;;
	alloc) words='--count --owner --ttl --request-id' ;;
	free | ls) words='--owner --no-owner' ;;
	prometheus) words='--owner' ;;
	put) words='--owner --ttl --offset --transport' ;;
	get) words='--offset --length --transport' ;;
	top) words='--count --interval' ;;
	token) words='--output' ;;
	bench) words='--size --threads --count --time --hold --transport' ;;
	esac
	if [[ $word == -* || -z $command ]]; then
		[[ $word != -* ]] || words+=' --url --token-file --ca-file --cert-file --key-file --server-name --timeout --json --help'
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
		return
	fi
	# First an id, then, except for free, a file. For put also a file alone.
	case $command$arguments in
	token0) mapfile -t COMPREPLY < <(compgen -W new -- "$word") ;;
	prometheus0) mapfile -t COMPREPLY < <(compgen -W status -- "$word") ;;
	free* | put0 | get0) mapfile -t COMPREPLY < <(compgen -W "$(_maas_ids)" -- "$word") ;;
	esac
	case $command$arguments in
	put0) [ ${#COMPREPLY[@]} -gt 0 ] || compopt -o default ;;
	put1 | get1) compopt -o default ;;
	esac
}
complete -F _maas maas
