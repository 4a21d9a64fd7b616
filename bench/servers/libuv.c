// The server in libuv, in C: what Node stands on, without Node. It is the only C here, because libuv's users write C.
//
// One buffer serves all connections: what has been read is written at once with uv_try_write, and copied only for a peer
// that does not read fast enough. Such a peer is not read from until it has taken the copy.

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <uv.h>

static char shared[64 * 1024];

struct rest {
  uv_write_t request;
  char bytes[];
};

static void die(const char* what, int error) {
  fprintf(stderr, "%s: %s\n", what, uv_strerror(error));
  exit(1);
}

static void free_handle(uv_handle_t* handle) { free(handle); }

static void end(uv_stream_t* connection) {
  if (!uv_is_closing((uv_handle_t*)connection)) uv_close((uv_handle_t*)connection, free_handle);
}

static void lend_buffer(uv_handle_t* handle, size_t suggested, uv_buf_t* buffer) {
  (void)handle;
  (void)suggested;
  *buffer = uv_buf_init(shared, sizeof shared);
}

static void on_read(uv_stream_t* connection, ssize_t size, const uv_buf_t* buffer);

static void on_written(uv_write_t* request, int status) {
  uv_stream_t* connection = request->handle;
  free(request->data);
  if (status < 0) end(connection);
  else uv_read_start(connection, lend_buffer, on_read);
}

static void on_read(uv_stream_t* connection, ssize_t size, const uv_buf_t* buffer) {
  if (size == 0) return;  // EAGAIN
  if (size < 0) {
    // The peer's end, or a reset. Nothing is owed: a connection with a rest is not read from.
    end(connection);
    return;
  }
  uv_buf_t echo = uv_buf_init(buffer->base, (unsigned)size);
  const int sent = uv_try_write(connection, &echo, 1);
  if (sent == size) return;
  if (sent < 0 && sent != UV_EAGAIN) {
    end(connection);
    return;
  }
  const size_t begin = sent < 0 ? 0 : (size_t)sent;
  const size_t left = (size_t)size - begin;
  struct rest* rest = malloc(sizeof *rest + left);
  if (rest == NULL) {
    end(connection);
    return;
  }
  memcpy(rest->bytes, buffer->base + begin, left);
  rest->request.data = rest;
  uv_read_stop(connection);
  echo = uv_buf_init(rest->bytes, (unsigned)left);
  if (uv_write(&rest->request, connection, &echo, 1, on_written) < 0) {
    free(rest);
    end(connection);
  }
}

static void on_connection(uv_stream_t* listener, int status) {
  if (status < 0) return;
  uv_tcp_t* connection = malloc(sizeof *connection);
  if (connection == NULL || uv_tcp_init(listener->loop, connection) < 0) {
    free(connection);
    return;
  }
  if (uv_accept(listener, (uv_stream_t*)connection) < 0 || uv_tcp_nodelay(connection, 1) < 0 ||
      uv_read_start((uv_stream_t*)connection, lend_buffer, on_read) < 0) {
    end((uv_stream_t*)connection);
  }
}

int main(int argc, char** argv) {
  const char* host = "127.0.0.1";
  int port = 0;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (strcmp(argv[i], "--host") == 0) host = argv[i + 1];
    if (strcmp(argv[i], "--port") == 0) port = atoi(argv[i + 1]);
  }

  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  signal(SIGPIPE, SIG_IGN);

  struct sockaddr_in address;
  uv_tcp_t listener;
  int error = uv_ip4_addr(host, port, &address);
  if (error < 0) die(host, error);
  uv_tcp_init(uv_default_loop(), &listener);
  error = uv_tcp_bind(&listener, (const struct sockaddr*)&address, 0);
  if (error == 0) error = uv_listen((uv_stream_t*)&listener, 4096, on_connection);
  if (error < 0) die("listen", error);
  printf("listening on %s:%d\n", host, port);
  fflush(stdout);
  return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}
