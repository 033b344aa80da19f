/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server PORT PROCESSOR: answer one byte with one byte, one connection at a
 * time. Writes "ready" once it listens; ends when its standard input ends, so
 * that it never outlives the benchmark.
 */
#include "realtime.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

static void *end_with_input(void *unused)
{
	char byte;

	while (read(0, &byte, 1) > 0)
		;
	_exit(0);
	return unused;
}

static int listen_on(int port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	if (listener < 0)
		fail("socket");
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)))
		fail("bind");
	if (listen(listener, 128))
		fail("listen");
	return listener;
}

static void echo(int connection)
{
	char byte;

	while (read(connection, &byte, 1) == 1 && write(connection, &byte, 1) == 1)
		;
	close(connection);
}

int main(int argc, char **argv)
{
	pthread_t watcher;
	int listener;

	if (argc != 3) {
		fprintf(stderr, "usage: server PORT PROCESSOR\n");
		return 2;
	}
	listener = listen_on(atoi(argv[1]));
	if (pthread_create(&watcher, NULL, end_with_input, NULL))
		fail("pthread_create");
	run_realtime_on(atoi(argv[2]));
	puts("ready");
	fflush(stdout);
	for (;;) {
		int connection = accept(listener, NULL, NULL);

		if (connection >= 0)
			echo(connection);
	}
}
