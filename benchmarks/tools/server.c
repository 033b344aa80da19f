/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server PORT PROCESSOR: answer one byte with one byte, one connection at a
 * time, and every datagram by itself. Writes "ready" once it listens; ends when its standard input ends, so
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

static void *answer_datagrams(void *opened)
{
	int datagrams = *(int *)opened;
	char byte;

	for (;;) {
		struct sockaddr_in client;
		socklen_t size = sizeof(client);
		ssize_t length = recvfrom(datagrams, &byte, 1, 0, (struct sockaddr *)&client, &size);

		if (length == 1)
			sendto(datagrams, &byte, 1, 0, (struct sockaddr *)&client, size);
	}
	return opened;
}

static int bound(int type, int port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	int listener = socket(AF_INET, type, 0), on = 1;

	if (listener < 0)
		fail("socket");
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)))
		fail("bind");
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
	int listener, datagrams, on = 1;
	pthread_t watcher, answerer;

	if (argc != 3) {
		fprintf(stderr, "usage: server PORT PROCESSOR\n");
		return 2;
	}
	listener = bound(SOCK_STREAM, atoi(argv[1]));
	setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (listen(listener, 128))
		fail("listen");
	datagrams = bound(SOCK_DGRAM, atoi(argv[1]));
	if (pthread_create(&watcher, NULL, end_with_input, NULL))
		fail("pthread_create");
	run_realtime_on(atoi(argv[2]));
	if (pthread_create(&answerer, NULL, answer_datagrams, &datagrams))
		fail("pthread_create");
	puts("ready");
	fflush(stdout);
	for (;;) {
		int connection = accept(listener, NULL, NULL);

		if (connection >= 0)
			echo(connection);
	}
}
