/**
 * nginx in front of the servers: one worker, one port for each server behind it, upstream connections kept alive on both sides
 * of the comparison, and nothing written to disk.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import type { Server } from "./processes.ts"
import { freePort, start } from "./processes.ts"

export interface Upstream {
  readonly name: string
  readonly socket: string
  readonly protocol: "fastcgi" | "http"
  /** Whether nginx keeps the connection after a reply; it closes it by default. */
  readonly keepConnection: boolean
}

/** The parameters of Debian's fastcgi_params. */
const params = `
    fastcgi_param QUERY_STRING $query_string;
    fastcgi_param REQUEST_METHOD $request_method;
    fastcgi_param CONTENT_TYPE $content_type;
    fastcgi_param CONTENT_LENGTH $content_length;
    fastcgi_param SCRIPT_NAME $fastcgi_script_name;
    fastcgi_param REQUEST_URI $request_uri;
    fastcgi_param DOCUMENT_URI $document_uri;
    fastcgi_param DOCUMENT_ROOT $document_root;
    fastcgi_param SERVER_PROTOCOL $server_protocol;
    fastcgi_param REQUEST_SCHEME $scheme;
    fastcgi_param HTTPS $https if_not_empty;
    fastcgi_param GATEWAY_INTERFACE CGI/1.1;
    fastcgi_param SERVER_SOFTWARE nginx/$nginx_version;
    fastcgi_param REMOTE_ADDR $remote_addr;
    fastcgi_param REMOTE_PORT $remote_port;
    fastcgi_param REMOTE_USER $remote_user;
    fastcgi_param SERVER_ADDR $server_addr;
    fastcgi_param SERVER_PORT $server_port;
    fastcgi_param SERVER_NAME $server_name;`

const location = (upstream: Upstream, index: number): string =>
  upstream.protocol === "fastcgi"
    ? `${params}
      fastcgi_pass upstream${index};
      fastcgi_keep_conn ${upstream.keepConnection ? "on" : "off"};
      fastcgi_buffer_size 16k; fastcgi_buffers 32 64k; fastcgi_max_temp_file_size 0;`
    : `
      proxy_pass http://upstream${index};
      proxy_http_version 1.1;
      proxy_set_header Connection ${upstream.keepConnection ? "\"\"" : "close"};
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_buffer_size 16k; proxy_buffers 32 64k; proxy_max_temp_file_size 0;`

/**
 * Starts nginx in `folder`, which must be empty. Returns it and the port of each upstream, in their order. Connections to upstreams
 * that carry nothing are kept for `keepaliveTimeout`.
 */
export const startNginx = async (
  nginx: string,
  folder: string,
  upstreams: ReadonlyArray<Upstream>,
  keepaliveTimeout = "4s"
): Promise<{ readonly server: Server; readonly ports: ReadonlyArray<number> }> => {
  const ports: Array<number> = []
  for (const _ of upstreams) {
    let port = await freePort()
    while (ports.includes(port)) port = await freePort()
    ports.push(port)
  }
  const temporary = ["client_body", "fastcgi", "proxy", "uwsgi", "scgi"]
    .map((name) => `  ${name}_temp_path ${Path.join(folder, name)};`).join("\n")
  const config = Path.join(folder, "nginx.conf")
  Fs.writeFileSync(
    config,
    `${process.getuid?.() === 0 ? "user root; " : ""}daemon off; worker_processes 1; pid ${
      Path.join(folder, "nginx.pid")
    }; error_log ${Path.join(folder, "error.log")} crit;
events { worker_connections 4096; }
http {
  access_log off; keepalive_requests 1000000; client_max_body_size 0; client_body_buffer_size 2m;
${temporary}
${
      upstreams.map((upstream, index) =>
        `  upstream upstream${index} { server unix:${upstream.socket};${
          upstream.keepConnection
            ? ` keepalive 64; keepalive_requests 1000000; keepalive_timeout ${keepaliveTimeout};`
            : ""
        } }
  server { listen 127.0.0.1:${ports[index]} backlog=511; location / {${location(upstream, index)}
  } }`
      ).join("\n")
    }
}
`
  )
  const server = await start(nginx, ["-e", "stderr", "-c", config, "-p", folder], {
    host: "127.0.0.1",
    port: ports[0]!
  })
  return { server, ports }
}
