#compdef maas
# zsh completion for maas(1)

# Ids, as the server that the command line names lists them.
_maas_ids() {
	local -a call ids
	local option
	call=(maas ls --timeout 2)
	[[ -z ${opt_args[--url]} ]] || call+=(--url ${(Q)opt_args[--url]})
	for option in --token-file --ca-file --cert-file --key-file --server-name; do
		[[ -z ${opt_args[$option]} ]] || call+=($option ${(Q)~opt_args[$option]})
	done
	ids=(${${(f)"$($call 2>/dev/null | head -n 1001)"}[2,-1]%% *})
	_wanted ids expl 'allocation' compadd -a ids
}

_maas_ids_or_files() {
	_alternative 'ids:allocation:_maas_ids' 'files:file:_files'
}

_maas() {
	local curcontext=$curcontext state line expl
	local -A opt_args
	local -a common commands
	local transport='--transport[how the bytes travel]:way:(auto rdma http)'
	common=(
		'--url[the server]:URL:'
		'--token-file[whose first line is the token for the server]:file:_files'
		'--ca-file[with https\: the CAs of the server]:file:_files'
		'--cert-file[with https\: the certificate that says who asks]:file:_files'
		'--key-file[with https\: its key]:file:_files'
		'--server-name[with https\: a name that the certificate of the server has]:name:'
		'--timeout[of each request]:seconds:'
		'--json[print JSON]'
		'(- *)--help[print help]'
	)
	commands=(
		'health:tell whether the server is well'
		'stats:show what is lent, by size of slab'
		'alloc:borrow memory and print its id'
		'free:give memory back'
		'put:put a file into memory of its size, or into what an id names'
		'get:read the memory into a file, or to the output'
		'ls:list what is lent'
		'top:show what is lent and what is going on, again and again'
		'bench:measure allocate, put, get and free'
		'doctor:look for what stands in the way here'
		"prometheus:show who keeps a Prometheus's memory here"
		'token:make a token, and the line for the server'
		'whoami:tell who you are to the server'
	)
	_arguments -C $common '(- *)--version[print the version]' '1: :->command' '*:: :->rest' &&
		return
	if [[ $state == command ]]; then
		_describe -t commands 'command' commands
		return
	fi
	curcontext=${curcontext%:*}-$words[1]:
	case $words[1] in
	alloc)
		_arguments $common '--count[so many of that size]:number:' \
			'--owner[the owner]:name:' '--ttl[it ends by itself unless renewed]:seconds:' \
			'--request-id[the same id gives the same memory]:id:' '1:size:()'
		;;
	free) _arguments $common '(--no-owner)--owner[all of one owner]:name:' \
		'(--owner)--no-owner[all without an owner]' '*: :_maas_ids' ;;
	put)
		_arguments $common $transport '(--owner --ttl)--offset[where in the memory]:bytes:' \
			'(--offset)--owner[of new memory\: its owner]:name:' \
			'(--offset)--ttl[of new memory\: it ends by itself unless renewed]:seconds:' \
			'1: :_maas_ids_or_files' '2:file:_files'
		;;
	get)
		_arguments $common $transport '--offset[where in the memory]:bytes:' \
			'--length[how much]:bytes:' '1: :_maas_ids' '2:file:_files'
		;;
	ls) _arguments $common '(--no-owner)--owner[only of one owner]:name:' \
		'(--owner)--no-owner[only what has no owner]' ;;
	top)
		_arguments $common '--count[so many looks]:number:' \
			'--interval[between two looks]:seconds:'
		;;
	bench)
		_arguments $common $transport '--size[of each allocation]:bytes:' \
			'--threads[at work at once]:number:' '(--time)--count[rounds in all]:number:' \
			'(--count)--time[how long]:seconds:' '--hold[put and get only]'
		;;
	prometheus) _arguments $common '--owner[all about this one]:name:' '1: :(status)' ;;
	token) _arguments $common '--output[write the token there]:file:_files' '1: :(new)' '2:name:' ;;
	health | stats | doctor | whoami) _arguments $common ;;
	esac
}

_maas "$@"
