/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client ADDRESS PORT CONNECTIONS ROUND_TRIPS PROCESSOR: measure one path.
 *
 * A connection is socket, connect (timed), write one byte, read one byte, close
 * with RST; a round trip is one byte to and fro on one open connection; then as
 * many UDP requests, each answered. Prints one JSON object: connections per
 * second and the quantiles in nanoseconds.
 */
#include "realtime.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_in target = {.sin_family = AF_INET};

static long long now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int open_socket(int type)
{
	struct linger reset = {.l_onoff = 1};
	struct timeval patience = {.tv_sec = 5};
	int connection = socket(AF_INET, type, 0);

	if (connection < 0)
		fail("socket");
	setsockopt(connection, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	return connection;
}

static int open_connection(void)
{
	int connection = open_socket(SOCK_STREAM), on = 1;

	setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return connection;
}

static void connect_to_target(int connection)
{
	if (connect(connection, (struct sockaddr *)&target, sizeof(target)))
		fail("connect");
}

static void round_trip(int connection)
{
	char byte = 'x';

	if (write(connection, &byte, 1) != 1)
		fail("write");
	if (read(connection, &byte, 1) != 1)
		fail("read");
}

static int by_value(const void *left, const void *right)
{
	long long a = *(const long long *)left, b = *(const long long *)right;

	return (a > b) - (a < b);
}

static long long quantile(long long *sorted, int count, double share)
{
	return count ? sorted[(int)(share * (count - 1))] : 0;
}

static double measure_connections(int count, long long *connect_ns)
{
	long long begin = now_ns();

	for (int i = 0; i < count; i++) {
		int connection = open_connection();
		long long before = now_ns();

		connect_to_target(connection);
		connect_ns[i] = now_ns() - before;
		round_trip(connection);
		close(connection);
	}
	return count * 1e9 / (now_ns() - begin);
}

static void measure_round_trips(int count, long long *trip_ns)
{
	int connection = open_connection();

	connect_to_target(connection);
	for (int i = 0; i < count; i++) {
		long long before = now_ns();

		round_trip(connection);
		trip_ns[i] = now_ns() - before;
	}
	close(connection);
}

/* Each from a socket of its own, as a resolver asks. */
static void measure_requests(int count, long long *request_ns)
{
	for (int i = 0; i < count; i++) {
		int connection = open_socket(SOCK_DGRAM);
		long long before = now_ns();

		connect_to_target(connection);
		round_trip(connection);
		request_ns[i] = now_ns() - before;
		close(connection);
	}
}

static long long *samples(int count)
{
	long long *room = calloc(count + 1, sizeof(*room));

	if (!room)
		fail("calloc");
	return room;
}

int main(int argc, char **argv)
{
	long long *connect_ns, *trip_ns, *udp_ns;
	int connections, trips;
	double rate;

	if (argc != 6 || inet_pton(AF_INET, argv[1], &target.sin_addr) != 1) {
		fprintf(stderr, "usage: client ADDRESS PORT CONNECTIONS ROUND_TRIPS PROCESSOR\n");
		return 2;
	}
	target.sin_port = htons(atoi(argv[2]));
	connections = atoi(argv[3]);
	trips = atoi(argv[4]);
	connect_ns = samples(connections);
	trip_ns = samples(trips);
	udp_ns = samples(trips);
	run_realtime_on(atoi(argv[5]));
	rate = measure_connections(connections, connect_ns);
	measure_round_trips(trips, trip_ns);
	measure_requests(trips, udp_ns);
	qsort(connect_ns, connections, sizeof(*connect_ns), by_value);
	qsort(trip_ns, trips, sizeof(*trip_ns), by_value);
	qsort(udp_ns, trips, sizeof(*udp_ns), by_value);
	printf("{\"rate\": %.1f, \"connect_p50\": %lld, \"connect_p99\": %lld, \"trip_p50\": %lld, "
	       "\"udp_p50\": %lld, \"udp_p99\": %lld}\n",
	       rate, quantile(connect_ns, connections, 0.5), quantile(connect_ns, connections, 0.99),
	       quantile(trip_ns, trips, 0.5), quantile(udp_ns, trips, 0.5),
	       quantile(udp_ns, trips, 0.99));
	return 0;
}
