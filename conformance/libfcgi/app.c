/*
 * The application that the conformance suite asks for (docs/conformance.md), on libfcgi.
 *
 *   cc -O2 -o app-libfcgi conformance/libfcgi/app.c -lfcgi -lpthread && THREADS=8 ./app-libfcgi /tmp/app.sock
 *
 * libfcgi serves one request at a time per thread, so this one runs THREADS of them (default 8), each with its own
 * FCGX_Request, as in its example threaded.c.
 */
#include <fcgiapp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int listener;
static atomic_long started, ended, aborted;

static void head(FCGX_Request *request, const char *status, const char *type) {
  FCGX_FPrintF(request->out, "Status: %s\r\nContent-Type: %s\r\n\r\n", status, type);
}

static void text(FCGX_Request *request, const char *status, const char *body) {
  head(request, status, "text/plain");
  FCGX_FPrintF(request->out, "%s", body);
}

static void put_hex(FCGX_Stream *out, const char *from, const char *to) {
  for (; from < to; from++) FCGX_FPrintF(out, "%02x", (unsigned char) *from);
}

/* Bytes until the end of the stream, or -1 when it ends with an error. */
static long size_of(FCGX_Stream *in) {
  char buffer[65536];
  long size = 0;
  for (int n; (n = FCGX_GetStr(buffer, sizeof buffer, in)) > 0;) size += n;
  return FCGX_GetError(in) != 0 ? -1 : size;
}

static long number(const char *uri) {
  const char *equals = strrchr(uri, '=');
  return equals == NULL ? 0 : strtol(equals + 1, NULL, 10);
}

/* FCGX_GetStr waits until the buffer is full, so the echo takes a byte and what has come with it. */
static int echo(FCGX_Request *request) {
  FCGX_Stream *in = request->in;
  head(request, "200 OK", "application/octet-stream");
  FCGX_FFlush(request->out);
  for (;;) {
    int byte = FCGX_GetChar(in);
    if (byte < 0) break;
    if (FCGX_PutChar(byte, request->out) < 0) return 0;
    long ready = in->stop - in->rdNext;
    if (ready > 0) {
      if (FCGX_PutStr((const char *) in->rdNext, ready, request->out) < 0) return 0;
      in->rdNext += ready;
    }
    if (FCGX_FFlush(request->out) < 0) return 0;
  }
  return FCGX_GetError(in) == 0;
}

/* Answers, and tells whether the request came to its end: 0 when a read or a write said that it was given up. */
static int respond(FCGX_Request *request, const char *uri, size_t path) {
  FCGX_Stream *out = request->out;
#define IS(name) (path == strlen(name) && strncmp(uri, name, path) == 0)
  if (IS("/echo")) return echo(request);
  if (IS("/length")) {
    long size = size_of(request->in);
    if (size < 0) {
      text(request, "400 Bad Request", "STDIN ended with an error\n");
    } else {
      head(request, "200 OK", "text/plain");
      FCGX_FPrintF(out, "%ld\n", size);
    }
  } else if (IS("/params")) {
    head(request, "200 OK", "text/plain");
    for (char **pair = request->envp; *pair != NULL; pair++) {
      const char *equals = strchr(*pair, '=');
      if (strncmp(*pair, "X_", 2) != 0 || equals == NULL) continue;
      put_hex(out, *pair, equals);
      FCGX_PutS("=", out);
      put_hex(out, equals + 1, *pair + strlen(*pair));
      FCGX_PutS("\n", out);
    }
  } else if (IS("/sleep")) {
    usleep(number(uri) * 1000);
    text(request, "200 OK", "slept\n");
  } else if (IS("/large")) {
    static const char zeros[65536];
    head(request, "200 OK", "application/octet-stream");
    for (long left = number(uri); left > 0;) {
      long n = left < (long) sizeof zeros ? left : (long) sizeof zeros;
      if (FCGX_PutStr(zeros, n, out) < 0) return 0;
      left -= n;
    }
  } else if (IS("/stderr")) {
    FCGX_FPrintF(request->err, "to stderr\n");
    text(request, "200 OK", "done\n");
  } else if (IS("/appstatus")) {
    FCGX_SetExitStatus((int) (unsigned int) number(uri), out);
    text(request, "200 OK", "done\n");
  } else if (IS("/nothing")) {
    return 1;
  } else {
    text(request, "404 Not Found", "not found\n");
  }
  return FCGX_FFlush(out) >= 0;
}

static int filter(FCGX_Request *request, const char *uri, size_t path) {
  if (IS("/cached")) {
    text(request, "200 OK", "from the cache\n");
    return 1;
  }
  long stdin_size = size_of(request->in);
  if (FCGX_StartFilterData(request->in) < 0) return 0;
  long data_size = size_of(request->in);
  if (stdin_size < 0 || data_size < 0) {
    text(request, "400 Bad Request", "the input ended with an error\n");
  } else {
    head(request, "200 OK", "text/plain");
    FCGX_FPrintF(request->out, "%ld %ld\n", stdin_size, data_size);
  }
  return 1;
}

static void *serve(void *unused) {
  FCGX_Request request;
  FCGX_InitRequest(&request, listener, 0);
  for (;;) {
    /* No lock around it, which the example has: while a connection is kept, accepting is waiting for its next request. */
    if (FCGX_Accept_r(&request) < 0) continue;
    /* libfcgi would send the status that the last request of this thread has set. */
    FCGX_SetExitStatus(0, request.out);
    const char *uri = FCGX_GetParam("REQUEST_URI", request.envp);
    const char *role = FCGX_GetParam("FCGI_ROLE", request.envp);
    if (uri == NULL) uri = "";
    if (role == NULL) role = "";
    size_t path = strcspn(uri, "?");
    if (strcmp(role, "AUTHORIZER") == 0) {
      if (IS("/allow")) {
        FCGX_FPrintF(request.out, "Status: 200 OK\r\nVariable-X_CONFORMANCE: yes\r\n\r\n");
      } else {
        text(&request, "403 Forbidden", "denied\n");
      }
    } else if (IS("/counters")) {
      head(&request, "200 OK", "text/plain");
      FCGX_FPrintF(request.out, "started %ld\nended %ld\naborted %ld\n", started, ended, aborted);
    } else {
      atomic_fetch_add(&started, 1);
      int done = strcmp(role, "FILTER") == 0 ? filter(&request, uri, path) : respond(&request, uri, path);
      atomic_fetch_add(done ? &ended : &aborted, 1);
    }
    FCGX_Finish_r(&request);
  }
  return unused;
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: [THREADS=8] %s PATH-OF-SOCKET\n", argv[0]);
    return 2;
  }
  const char *wanted = getenv("THREADS");
  int threads = wanted == NULL ? 8 : atoi(wanted);
  unlink(argv[1]);
  FCGX_Init();
  listener = FCGX_OpenSocket(argv[1], 511);
  if (listener < 0) {
    perror(argv[1]);
    return 1;
  }
  for (int i = 1; i < threads; i++) {
    pthread_t thread;
    pthread_create(&thread, NULL, serve, NULL);
  }
  serve(NULL);
  return 0;
}
