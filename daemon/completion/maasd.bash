# shellcheck shell=bash
# bash completion for maasd(8)

_maasd() {
	local word=${COMP_WORDS[COMP_CWORD]} option=${COMP_WORDS[COMP_CWORD - 1]} words=''
	# --rdma=off comes as three words.
	[ "$word" != = ] || word=''
	[ "$option" != = ] || option=${COMP_WORDS[COMP_CWORD - 2]}
	case $option in
	--memory-file | --log-file | --auth-file | --tls-cert | --tls-key | --tls-client-ca | \
		--tls-client-crl)
		COMPREPLY=()
		compopt -o default
		return
		;;
	--tls-client-cert) words='none optional required' ;;
	--rdma) words='auto required off' ;;
	--rdma-keys) words='auto window mr pool' ;;
	--log-level) words='error warn info debug' ;;
	--listen | --listen-metrics) words='unix: 127.0.0.1:3000 0.0.0.0:3000' ;;
	--max-pool-size | --slab-sizes | --extent-size | --numa-node | --max-sessions | --max-session-ttl | \
		--socket-mode | --socket-group | --http-threads | --max-connections | \
		--max-connections-per-address | --max-body-size | --max-header-size | --connection-timeout | \
		--host | --drain-delay | --drain-timeout | --rdma-device | --rdma-addr | --rdma-port | \
		--max-grants) ;;
	*) words='--max-pool-size --slab-sizes --extent-size --prealloc --numa-node --memory-file
		--max-sessions --max-session-ttl --listen --listen-metrics --socket-mode --socket-group
		--http-threads --max-connections --max-connections-per-address --max-body-size --max-header-size
		--connection-timeout --host --drain-delay --drain-timeout --auth-file
		--insecure-plaintext --insecure-rdma --insecure-open --tls-cert --tls-key --tls-client-ca
		--tls-client-crl --tls-client-cert
		--rdma --rdma-device --rdma-addr --rdma-port --rdma-keys
		--require-isolation --max-grants --log-level --log-file --check --version --help' ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _maasd maasd
