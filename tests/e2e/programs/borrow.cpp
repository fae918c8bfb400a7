/* SPDX-License-Identifier: Apache-2.0 */
/* The same in C++11, with operations that are submitted and completed later. */
#include <iostream>
#include <maas.h>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

static int check(int result)
{
	if (result < 0)
		throw std::runtime_error(maas_error());
	return result;
}

static maas_completion complete(maas *handle)
{
	maas_completion completion;

	if (check(maas_poll(handle, &completion, 1, -1)) != 1 || completion.status)
		throw std::runtime_error(completion.error);
	return completion;
}

int main(int argc, char **argv)
try {
	maas_options options = {};
	options.size = sizeof(options);
	if (argc > 1 && argv[1] == std::string("rdma"))
		options.transport = MAAS_TRANSPORT_RDMA;
	maas *opened = nullptr;
	check(maas_open(&options, &opened));
	std::unique_ptr<maas, void (*)(maas *)> handle(opened, maas_close);

	maas_allocation memory;
	check(maas_alloc(handle.get(), 5, nullptr, &memory));
	std::string out = "hello";
	std::vector<char> in(out.size());
	maas_range range = {memory.id, 0, &out[0], out.size()};
	check(maas_submit_write(handle.get(), &range, 1, 0, &out));
	complete(handle.get());
	range.buf = in.data();
	check(maas_submit_read(handle.get(), &range, 1, 0, &in));
	if (complete(handle.get()).user != &in)
		throw std::runtime_error("another operation completed");
	check(maas_free(handle.get(), memory.id));
	std::cout << std::string(in.begin(), in.end()) << " from " << maas_url(handle.get()) << '\n';
	return std::string(in.begin(), in.end()) == out ? 0 : 1;
} catch (const std::exception &error) {
	std::cerr << "borrow: " << error.what() << '\n';
	return 1;
}
