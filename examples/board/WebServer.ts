/**
 * nginx or lighttpd in front of the app: started as a child process, with a configuration of its own in a scratch
 * directory and no need for root. The configurations are the part to copy.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FileSystem from "effect/FileSystem"
import * as Path from "effect/Path"
import * as ChildProcess from "effect/process/ChildProcess"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { createConnection, createServer, isIPv6 } from "node:net"

export class WebServerError extends Data.TaggedError("WebServerError")<{ readonly message: string }> {}

export const names = ["nginx", "lighttpd"] as const
export type Name = typeof names[number]

interface Places {
  /** The scratch directory. */
  readonly directory: string
  /** The UNIX socket of the app. */
  readonly socket: string
  /** An IP address. */
  readonly host: string
  readonly port: number
}

/** As it stands in an address of HTTP, and in the configurations. */
const inAddress = (host: string) => isIPv6(host) ? `[${host}]` : host

const nginx = ({ directory, host, port, socket }: Places) =>
  `daemon off;
pid ${directory}/nginx.pid;
error_log stderr warn;
worker_processes 1;
worker_shutdown_timeout 10s;
${process.getuid?.() === 0 ? "user root root;  # the socket belongs to the user who started the app\n" : ""}events {}
http {
  access_log off;
  client_body_temp_path ${directory}/body;
  fastcgi_temp_path ${directory}/fastcgi;
  proxy_temp_path ${directory}/proxy;
  uwsgi_temp_path ${directory}/uwsgi;
  scgi_temp_path ${directory}/scgi;

  upstream board {
    server unix:${socket};
    keepalive 16;
  }

  server {
    listen ${inAddress(host)}:${port};
    server_name localhost;
    client_max_body_size 0;         # uploads of any size
    fastcgi_request_buffering off;  # and the app gets them while they arrive
    fastcgi_buffering off;          # server-sent events leave at once
    fastcgi_keep_conn on;           # together with keepalive above
    fastcgi_buffer_size 16k;        # room for the headers of a response; the default is 4k
    fastcgi_buffers 8 16k;

    location / {
      fastcgi_pass board;
      fastcgi_param REQUEST_METHOD    $request_method;
      fastcgi_param REQUEST_URI       $request_uri;
      fastcgi_param QUERY_STRING      $query_string;
      fastcgi_param SCRIPT_NAME       $fastcgi_script_name;
      fastcgi_param CONTENT_TYPE      $content_type;
      fastcgi_param CONTENT_LENGTH    $content_length;
      fastcgi_param GATEWAY_INTERFACE CGI/1.1;
      fastcgi_param SERVER_SOFTWARE   nginx/$nginx_version;
      fastcgi_param SERVER_PROTOCOL   $server_protocol;
      fastcgi_param SERVER_NAME       $server_name;
      fastcgi_param SERVER_ADDR       $server_addr;
      fastcgi_param SERVER_PORT       $server_port;
      fastcgi_param REMOTE_ADDR       $remote_addr;
      fastcgi_param REMOTE_PORT       $remote_port;
      fastcgi_param REQUEST_SCHEME    $scheme;
      fastcgi_param HTTPS             $https if_not_empty;
      fastcgi_param HTTP_PROXY        "" if_not_empty;  # never what a client sent
    }
  }
}
`

const lighttpd = ({ directory, host, port, socket }: Places) =>
  `server.modules += ( "mod_fastcgi" )
server.document-root = "${directory}"
server.bind = "${inAddress(host)}"
server.port = ${port}
server.upload-dirs = ( "${directory}" )
server.stream-request-body = 2   # the app gets uploads while they arrive
server.stream-response-body = 2  # server-sent events leave at once
fastcgi.server = ( "/" => ((
  "socket" => "${socket}",
  "check-local" => "disable",
  "fix-root-scriptname" => "enable"
)) )
`

const servers = {
  nginx: {
    configuration: nginx,
    arguments: (file: string) => ["-c", file, "-e", "stderr"],
    // Waits for what runs; lighttpd does the same on SIGINT.
    stop: "SIGQUIT"
  },
  lighttpd: {
    configuration: lighttpd,
    arguments: (file: string) => ["-D", "-f", file],
    stop: "SIGINT"
  }
} as const

// Debian has web servers in directories that are not on everybody's PATH.
const executable = Effect.fnUntraced(function*(name: Name) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const directories = [...(process.env["PATH"] ?? "").split(":"), "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin"]
  for (const directory of directories) {
    if (directory === "") continue
    const file = path.join(directory, name)
    if (yield* fs.exists(file)) return file
  }
  return yield* new WebServerError({
    message:
      `${name} is not installed. On Debian and Ubuntu: apt-get install ${name}; with Homebrew: brew install ${name}`
  })
})

/** A free port for 0, and the port itself otherwise, once it is known to be free. */
const freePort = (host: string, port: number) =>
  Effect.callback<number, WebServerError>((resume) => {
    const server = createServer()
    server.once("error", (error: NodeJS.ErrnoException) =>
      resume(Effect.fail(
        new WebServerError({
          message: error.code === "EADDRINUSE"
            ? portTaken(host, port)
            : `cannot listen on ${inAddress(host)}:${port}: ${error.message}`
        })
      )))
    server.listen(port, host, () => {
      const address = server.address()
      const found = typeof address === "object" && address !== null ? address.port : port
      server.close(() => resume(Effect.succeed(found)))
    })
  })

export const portTaken = (host: string, port: number): string =>
  `port ${port} on ${host} is taken. Choose another with --port ${port + 1}, or any free one with --port 0`

/** Where this host reaches who listens on an address; on all addresses is also on the loopback's. */
export const url = (host: string, port: number): string => `http://${inAddress(reachable(host))}:${port}/`

const reachable = (host: string) => host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host

const connect = (host: string, port: number) =>
  Effect.callback<void, Error>((resume) => {
    const socket = createConnection(port, reachable(host))
    socket.once("error", (error) => resume(Effect.fail(error)))
    socket.once("connect", () => {
      socket.destroy()
      resume(Effect.void)
    })
    return Effect.sync(() => socket.destroy())
  })

/**
 * Starts the web server and answers when it accepts connections. `died` fails when it ends by itself; the end of the
 * scope stops it, after the requests that run.
 */
export const start = Effect.fnUntraced(function*(name: Name, options: Places) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const server = servers[name]
  const file = yield* executable(name)
  const port = yield* freePort(options.host, options.port)
  const configuration = path.join(options.directory, `${name}.conf`)
  yield* fs.writeFileString(configuration, server.configuration({ ...options, port }))

  const child = yield* ChildProcess.make(file, server.arguments(configuration), {
    stdin: "ignore",
    killSignal: server.stop,
    forceKillAfter: "12 seconds"
  })
  // What it says is shown as it is: when it ends by itself, that is the reason.
  const output = yield* child.all.pipe(
    Stream.decodeText,
    Stream.splitLines,
    Stream.filter((line) => !/server (started|stopped)|graceful shutdown/.test(line)),
    Stream.runForEach((line) => Effect.sync(() => process.stderr.write(`${name}: ${line}\n`))),
    Effect.ignore,
    Effect.forkScoped
  )
  const died = Effect.exit(child.exitCode).pipe(
    // Its last words; a worker that outlives it may hold the pipe open.
    Effect.andThen(Effect.timeoutOption(Fiber.await(output), "1 second")),
    Effect.andThen(Effect.fail(new WebServerError({ message: `${name} ended` })))
  )
  const accepts = connect(options.host, port).pipe(
    Effect.retry(Schedule.spaced("50 millis")),
    Effect.timeoutOrElse({
      duration: "10 seconds",
      orElse: () => Effect.fail(new WebServerError({ message: `${name} does not answer on port ${port}` }))
    })
  )
  yield* Effect.raceFirst(accepts, died)
  return {
    url: url(options.host, port),
    lines: [
      `browser --HTTP--> ${name} (process ${child.pid}) --FastCGI--> the app (process ${process.pid})`,
      `the FastCGI socket is ${options.socket}`,
      `${name}'s configuration is ${configuration}`
    ],
    died
  }
})
