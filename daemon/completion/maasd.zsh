#compdef maasd
# zsh completion for maasd(8)

_arguments \
	'--max-pool-size=[memory to lend at most]:size:' \
	'--slab-sizes=[size classes]:sizes with commas between them:' \
	'--extent-size=[how the pool grows]:size:' \
	'--prealloc[take all of the memory at the start]' \
	'--numa-node=[take memory from this NUMA node only]:number:' \
	'--memory-file=[keep what is lent across restarts]:file:_files' \
	'--max-sessions=[open sessions at most]:number:' \
	'--max-session-ttl=[longest lease of a session]:seconds:' \
	'*--listen=[serve this address]:[HOST\:]PORT, [IPV6]\:PORT or unix\:PATH:' \
	'*--listen-metrics=[health and metrics only]:[HOST\:]PORT, [IPV6]\:PORT or unix\:PATH:' \
	'--socket-mode=[of Unix sockets]:octal mode:' \
	'--socket-group=[of Unix sockets]:group:_groups' \
	'--http-threads=[threads for each address]:number:' \
	'--max-connections=[to each address]:number:' \
	'--max-connections-per-address=[of one client]:number:' \
	'--max-body-size=[longest list in a JSON body]:size:' \
	'--max-header-size=[longest head of a request]:size:' \
	'--connection-timeout=[close a connection without progress]:seconds:' \
	'*--host=[a name that local clients may use]:name:' \
	'--drain-delay=[at SIGTERM, /ready says so this long]:seconds:' \
	'--drain-timeout=[then requests may take this long]:seconds:' \
	'--auth-file=[who may do what]:file:_files' \
	'--insecure-plaintext[tokens may travel in clear]' \
	'--insecure-rdma[the RDMA device need not keep clients apart]' \
	'--insecure-open[open kept memory of --auth-file without it]' \
	'--tls-cert=[the certificate of TCP addresses]:file:_files' \
	'--tls-key=[its key]:file:_files' \
	'--tls-client-ca=[CAs whose certificates clients may show]:file:_files' \
	'--tls-client-crl=[what these CAs have revoked]:file:_files' \
	'--tls-client-cert=[whether clients show one]:mode:(none optional required)' \
	'--rdma=[whether slabs are reached by RDMA]:mode:(auto required off)' \
	'--rdma-device=[this device and no other]:device:' \
	'--rdma-addr=[the address that clients connect to]:IP address:' \
	'--rdma-port=[the port that clients connect to]:port:' \
	'--rdma-keys=[how keys to slabs are made]:mode:(auto window mr pool)' \
	'--require-isolation[start only if the device keeps clients apart]' \
	'--max-grants=[live keys at most]:number:' \
	'--log-level=[the least severe events to log]:level:(error warn info debug)' \
	'--log-file=[log file]:file:_files' \
	'--check[check options and machine, print, and end]' \
	'(- *)--version[print the version and end]' \
	'(- *)--help[print the options and end]'
