/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a container runtime starts. It hands the call to whoever answers at the configuration's
 * "socket" and prints the answer; where nobody does, it becomes the Python of "python", which does
 * the same by itself. Python alone takes a quarter of a second to start: this takes two
 * milliseconds, so it is C, static, and does nothing else.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef PCL_CNI_VERSIONS
#error "the build says which versions of CNI there are"
#endif

#define CONFIG_MAX (1 << 20)
#define ANSWER_MAX (1 << 20)
#define ANSWER_SECONDS 60

enum code { CODE_IO_FAILURE = 5, CODE_TRY_AGAIN_LATER = 11 };

extern char **environ;

static char config[CONFIG_MAX + 1];
static char answer[ANSWER_MAX + 1];
static char version[16] = "1.0.0";

static int fail(enum code code, const char *message, const char *details)
{
	printf("{\"cniVersion\": \"%s\", \"code\": %d, \"msg\": \"%s\", \"details\": \"%s\"}\n",
	       version, code, message, details);
	return 1;
}

static ssize_t read_all(int fd, char *buffer, size_t room)
{
	size_t have = 0;

	while (have < room) {
		ssize_t got = read(fd, buffer + have, room - have);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -1;
		if (got == 0)
			break;
		have += got;
	}
	return have;
}

static int write_all(int fd, const char *bytes, size_t left)
{
	while (left) {
		ssize_t sent = send(fd, bytes, left, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent <= 0)
			return -1;
		bytes += sent;
		left -= sent;
	}
	return 0;
}

/* Behind the string that starts here, or NULL where it does not end. */
static const char *skip_string(const char *at)
{
	for (at++; *at && *at != '"'; at++)
		if (*at == '\\' && at[1])
			at++;
	return *at ? at + 1 : NULL;
}

static const char *skip_space(const char *at)
{
	return at + strspn(at, " \t\r\n");
}

/*
 * The value of a key of the outermost object, if it is a string without escapes: a path. What is
 * no JSON has none, and Python says what is wrong with it.
 */
static int find_string(const char *key, char *value, size_t room)
{
	size_t length = strlen(key);
	int depth = 0;

	for (const char *at = config; *at;) {
		const char *start = at, *end;

		if (*at != '"') {
			depth += (*at == '{' || *at == '[') - (*at == '}' || *at == ']');
			at++;
			continue;
		}
		at = skip_string(at);
		if (!at)
			return 0;
		end = skip_space(at);
		if (depth != 1 || *end != ':' || (size_t)(at - start) != length + 2 ||
		    strncmp(start + 1, key, length))
			continue;
		start = skip_space(end + 1);
		end = *start == '"' ? skip_string(start) : NULL;
		if (!end || (size_t)(end - start - 2) >= room || memchr(start, '\\', end - start))
			return 0;
		memcpy(value, start + 1, end - start - 2);
		value[end - start - 2] = 0;
		return 1;
	}
	return 0;
}

static int send_call(int fd, size_t length)
{
	for (char **one = environ; *one; one++)
		if (!strncmp(*one, "CNI_", 4) && write_all(fd, *one, strlen(*one) + 1))
			return -1;
	if (write_all(fd, "", 1) || write_all(fd, config, length))
		return -1;
	return shutdown(fd, SHUT_WR);
}

/* The exit code of an answer that was printed, or -1 where nobody answered. */
static int ask_agent(const char *path, size_t length)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval patience = {.tv_sec = ANSWER_SECONDS};
	ssize_t got = -1;
	int fd;

	if (strlen(path) >= sizeof(address.sun_path))
		return -1;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (!connect(fd, (struct sockaddr *)&address, sizeof(address)) && !send_call(fd, length))
		got = read_all(fd, answer, ANSWER_MAX);
	close(fd);
	if (got < 1 || answer[0] < '0' || answer[0] > '9')
		return -1;
	fwrite(answer + 1, 1, got - 1, stdout);
	return fflush(stdout) ? 1 : answer[0] - '0';
}

/* The rest of the call's life is Python's, with the configuration on its standard input again. */
static int become_python(char *python, size_t length)
{
	char *arguments[] = {python, "-m", "pycilium.cni", NULL};
	int fd = memfd_create("cni", 0);

	if (fd < 0 || write(fd, config, length) != (ssize_t)length || lseek(fd, 0, SEEK_SET) < 0 ||
	    dup2(fd, 0) < 0)
		return fail(CODE_IO_FAILURE, "no memory for the configuration", strerror(errno));
	close(fd);
	execvp(python, arguments);
	return fail(CODE_TRY_AGAIN_LATER, "nobody answers at the socket, and python does not start",
		    strerror(errno));
}

int main(void)
{
	char socket_path[4096] = "/run/pycilium/cni.sock", python[4096] = "python3";
	const char *command = getenv("CNI_COMMAND");
	ssize_t length;
	int code;

	length = read_all(0, config, CONFIG_MAX);
	if (length < 0)
		return fail(CODE_IO_FAILURE, "standard input cannot be read", strerror(errno));
	find_string("cniVersion", version, sizeof(version));
	if (command && !strcmp(command, "VERSION")) {
		printf("{\"cniVersion\": \"%s\", \"supportedVersions\": %s}\n", version,
		       PCL_CNI_VERSIONS);
		return 0;
	}
	find_string("socket", socket_path, sizeof(socket_path));
	find_string("python", python, sizeof(python));
	code = ask_agent(socket_path, length);
	return code >= 0 ? code : become_python(python, length);
}
