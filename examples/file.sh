#!/usr/bin/env bash
# Puts a file into another host's memory and prints what is read back from there: the HTTP API by
# hand, with curl and jq. (`maas put` and `maas get` do it in one word each.)
#
#	MAAS_URL=http://localhost:3000 ./file.sh file.sh | cmp - file.sh
#
# The file is at most as large as the server's largest slab, 4 MiB unless maasd has --slab-sizes.
set -euo pipefail
file=${1:?usage: file.sh FILE}
url=${MAAS_URL:-http://localhost:3000}

[ -f "$file" ] || { echo "$file: no such file" >&2 && exit 1; }

# request CURL_OPTION... prints the body of the answer; where that is a refusal, it says why.
request() {
	local answer
	if ! answer=$(curl -sS --fail-with-body -m 60 "$@"); then
		[ -z "$answer" ] || jq -r .error.message <<<"$answer" >&2
		return 1
	fi
	printf '%s' "$answer"
}

# Lent for a minute: where this script dies half way, the memory goes back by itself.
wanted=$(jq -n --argjson size "$(stat -L -c %s "$file")" \
	'{size_bytes: $size, ttl_seconds: 60, owner: "example-shell"}')
allocation=$(request -H 'Content-Type: application/json' -d "$wanted" "$url/allocate")
id=$(jq -r .id <<<"$allocation")

request --globoff -T "$file" "$url/allocate/$id/data"
curl -sS --fail -m 60 "$url/allocate/$id/data" # the bytes themselves, which a variable would spoil
request -X DELETE "$url/allocate/$id"
