// Put in front of the C library (LD_PRELOAD): calls that fail as if the system had no room, for as long as a file says so.
//   REFUSE_EPOLL=FILE     epoll_ctl(EPOLL_CTL_ADD) of the descriptor, with the errno, that it holds: '23 28'; of any where that is -2
//   REFUSE_THREADS=FILE   pthread_create, with EAGAIN, while it exists
//   REFUSE_NAMES=FILE     getsockname, with ENOBUFS, while it exists
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

int epoll_ctl(int epoll, int op, int fd, struct epoll_event *event) {
  int (*real)(int, int, int, struct epoll_event *) = dlsym(RTLD_NEXT, "epoll_ctl");
  const char *path = getenv("REFUSE_EPOLL");
  FILE *file = path != NULL && op == EPOLL_CTL_ADD ? fopen(path, "re") : NULL;
  int refused = -1, error = 0;
  if (file != NULL) {
    if (fscanf(file, "%d %d", &refused, &error) != 2) refused = -1;
    fclose(file);
  }
  if (refused != fd && refused != -2) return real(epoll, op, fd, event);
  errno = error;
  return -1;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*body)(void *), void *argument) {
  int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = dlsym(RTLD_NEXT, "pthread_create");
  const char *path = getenv("REFUSE_THREADS");
  if (path != NULL && access(path, F_OK) == 0) return EAGAIN;
  return real(thread, attributes, body, argument);
}

int getsockname(int fd, struct sockaddr *address, socklen_t *length) {
  int (*real)(int, struct sockaddr *, socklen_t *) = dlsym(RTLD_NEXT, "getsockname");
  const char *path = getenv("REFUSE_NAMES");
  if (path == NULL || access(path, F_OK) != 0) return real(fd, address, length);
  errno = ENOBUFS;
  return -1;
}
