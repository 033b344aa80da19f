// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Services at the socket: an application names a frontend, its packets go to a backend and need
 * no translation on their way. One program for each call and family, on a cgroup:
 *   connect      chooses a backend
 *   getpeername  tells the frontend
 *   sendmsg      the same for each datagram of an unconnected socket
 *   recvmsg      and for each answer
 *   post_bind    refuses the node's processes a port that is a service's
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "pcl/config.h"
#include "pcl/socket_bind.h"
#include "pcl/socket_connect.h"
#include "pcl/socket_datagram.h"

#define PCL_SOCKET_PROGRAM(section, call, family, context)                                         \
	SEC(section)                                                                               \
	int call##family(struct context *ctx)                                                      \
	{                                                                                          \
		return pcl_socket_##call(ctx, family);                                             \
	}

PCL_SOCKET_PROGRAM("cgroup/connect4", connect, 4, bpf_sock_addr)
PCL_SOCKET_PROGRAM("cgroup/connect6", connect, 6, bpf_sock_addr)
PCL_SOCKET_PROGRAM("cgroup/getpeername4", getpeername, 4, bpf_sock_addr)
PCL_SOCKET_PROGRAM("cgroup/getpeername6", getpeername, 6, bpf_sock_addr)
PCL_SOCKET_PROGRAM("cgroup/sendmsg4", sendmsg, 4, bpf_sock_addr)
PCL_SOCKET_PROGRAM("cgroup/sendmsg6", sendmsg, 6, bpf_sock_addr)
PCL_SOCKET_PROGRAM("cgroup/recvmsg4", recvmsg, 4, bpf_sock_addr)
PCL_SOCKET_PROGRAM("cgroup/recvmsg6", recvmsg, 6, bpf_sock_addr)
PCL_SOCKET_PROGRAM("cgroup/post_bind4", post_bind, 4, bpf_sock)
PCL_SOCKET_PROGRAM("cgroup/post_bind6", post_bind, 6, bpf_sock)

char _license[] SEC("license") = "Dual BSD/GPL";
