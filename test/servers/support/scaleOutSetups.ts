/**
 * Web servers with two applications behind them, as on two hosts: every configuration that is measured, and those that
 * docs/scale-out.md recommends, read from there.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { projectRoot } from "../../support/files.ts"
import * as WebServers from "../../support/webServers.ts"

/** The web servers, by the names of their programs. */
export type WebServer = "nginx" | "haproxy" | "apache2" | "lighttpd" | "caddy"

/** A configuration of a web server with two applications behind it. */
export interface Setup {
  readonly server: WebServer
  readonly name: string
  /** Whether it is the one that docs/scale-out.md recommends. */
  readonly recommended: boolean
  readonly configuration: (places: Places) => string
}

export interface Places {
  /** Where the web server may write. */
  readonly folder: string
  /** Where the web server listens, on 127.0.0.1. */
  readonly port: number
  /** Host and port of the applications. */
  readonly first: Address
  readonly second: Address
}

export interface Address {
  readonly host: string
  readonly port: number
}

const at = ({ host, port }: Address) => `${host}:${port}`

/** What docs/scale-out.md recommends, at other places. */
const documented = (language: string, listen: readonly [string, (port: number) => string]) => (places: Places) =>
  WebServers.fill(
    WebServers.documented(
      Fs.readFileSync(Path.join(projectRoot, "docs/scale-out.md"), "utf8"),
      language,
      "two hosts"
    ),
    [
      [listen[0], listen[1](places.port)],
      ...language === "lighttpd"
        ? [
          [`"10.0.0.11", "port" => 9000`, `"${places.first.host}", "port" => ${places.first.port}`] as const,
          [`"10.0.0.12", "port" => 9000`, `"${places.second.host}", "port" => ${places.second.port}`] as const
        ]
        : [["10.0.0.11:9000", at(places.first)] as const, ["10.0.0.12:9000", at(places.second)] as const]
    ]
  )

const nginxBlocks = (options: {
  readonly method?: string
  readonly second?: string
  readonly keep?: boolean
  readonly next?: string
}) =>
({ first, port, second }: Places) => `
upstream app {
  ${options.method ?? ""}
  server ${at(first)};
  server ${at(second)} ${options.second ?? ""};
  ${options.keep === true ? "keepalive 16;" : ""}
}
server {
  listen 127.0.0.1:${port};
  location / {
    include /etc/nginx/fastcgi_params;
    fastcgi_pass app;
    ${options.keep === true ? "fastcgi_keep_conn on;" : ""}
    ${options.next === undefined ? "" : `fastcgi_next_upstream ${options.next};`}
  }
}
`

const haproxySections =
  (options: { readonly app?: string; readonly backend: string; readonly second?: string }) =>
  ({ first, port, second }: Places) => `
defaults
  mode http
  timeout connect 2s
  timeout client 30s
  timeout server 30s
fcgi-app app
  docroot /srv/www
  path-info ^()(/.*)$
  option keep-conn
  ${options.app ?? ""}
frontend web
  bind 127.0.0.1:${port}
  default_backend app
backend app
  use-fcgi-app app
  ${options.backend}
  server a ${at(first)}
  server b ${at(second)} ${options.second ?? ""}
`

const checks = "option httpchk GET /health\n  default-server proto fcgi check inter 200ms"
const repeats = "option redispatch 1\n  retry-on all-retryable-errors"

const apacheDirectives =
  (options: { readonly method: string; readonly member?: string; readonly second?: string }) =>
  ({ first, second }: Places) => `
<Proxy "balancer://app">
  BalancerMember "fcgi://${at(first)}" ${options.member ?? ""}
  BalancerMember "fcgi://${at(second)}" ${options.member ?? ""} ${options.second ?? ""}
  ProxySet lbmethod=${options.method}
</Proxy>
ProxyPass "/" "balancer://app/"
`

const lighttpdLines = (balance: string) => ({ first, second }: Places) => {
  const host = (address: Address) =>
    `( "host" => "${address.host}", "port" => ${address.port}, "check-local" => "disable" )`
  return `
server.modules += ( "mod_fastcgi" )
fastcgi.balance = "${balance}"
fastcgi.server = ( "/" => ( ${host(first)}, ${host(second)} ) )
`
}

const caddySite = (lines: string) => ({ first, port, second }: Places) => `
http://127.0.0.1:${port} {
	reverse_proxy ${at(first)} ${at(second)} {
		lb_policy least_conn
		${lines}
		transport fastcgi {
			root /srv/www
		}
	}
}
`

const setup = (
  server: WebServer,
  name: string,
  configuration: Setup["configuration"],
  recommended = false
): Setup => ({ server, name, recommended, configuration })

/** All configurations, those that docs/scale-out.md recommends marked. */
export const setups: ReadonlyArray<Setup> = [
  setup("nginx", "round robin", nginxBlocks({})),
  setup("nginx", "`least_conn`", nginxBlocks({ method: "least_conn;" })),
  setup("nginx", "`backup`", nginxBlocks({ second: "backup" })),
  setup("nginx", "`keepalive`, `fastcgi_keep_conn`", nginxBlocks({ keep: true })),
  setup("nginx", "`fastcgi_next_upstream off`", nginxBlocks({ next: "off" })),
  setup(
    "nginx",
    "`fastcgi_next_upstream ... non_idempotent`",
    documented("nginx", ["listen 80;", (port) => `listen 127.0.0.1:${port};`]),
    true
  ),
  setup("haproxy", "no checks", haproxySections({ backend: "default-server proto fcgi" })),
  setup("haproxy", "`option httpchk`", haproxySections({ backend: checks })),
  setup("haproxy", "`httpchk`, one server and a `backup`", haproxySections({ backend: checks, second: "backup" })),
  setup(
    "haproxy",
    "`httpchk`, `redispatch`, `retry-on`, `mpxs-conns`",
    haproxySections({ app: "option mpxs-conns\n  option get-values", backend: `${checks}\n  ${repeats}` })
  ),
  setup(
    "haproxy",
    "`httpchk`, `redispatch`, `retry-on`",
    documented("haproxy", ["bind :80", (port) => `bind 127.0.0.1:${port}`]),
    true
  ),
  setup("apache2", "`bybusyness`, `enablereuse`", apacheDirectives({ method: "bybusyness", member: "enablereuse=on" })),
  setup("apache2", "one member and a hot standby", apacheDirectives({ method: "byrequests", second: "status=+H" })),
  setup("apache2", "`byrequests`", documented("apache", ["ProxyPass ", () => "ProxyPass "]), true),
  setup("lighttpd", "`round-robin`", lighttpdLines("round-robin")),
  setup("lighttpd", "`least-connection`", documented("lighttpd", ["server.modules ", () => "server.modules "]), true),
  setup("caddy", "`least_conn` alone", caddySite("")),
  setup("caddy", "`lb_try_duration`, `fail_duration`", caddySite("lb_try_duration 2s\n\t\tfail_duration 1s")),
  setup(
    "caddy",
    "`lb_try_duration`, `fail_duration`, `lb_retry_match`",
    documented("caddyfile", ["http://example.com ", (port) => `http://127.0.0.1:${port} `]),
    true
  )
]

const asRoot = process.getuid?.() === 0

const wholeFiles: Record<WebServer, (places: Places, configuration: string) => string> = {
  nginx: ({ folder }, configuration) =>
    [
      "daemon off;",
      "worker_processes 1;",
      ...(asRoot ? ["user root root;"] : []),
      `pid ${folder}/nginx.pid;`,
      "error_log stderr notice;",
      "events { worker_connections 1024; }",
      "http {",
      "access_log off;",
      ...["client_body", "fastcgi", "proxy", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${folder}/${name};`),
      configuration.replace("include fastcgi_params;", "include /etc/nginx/fastcgi_params;"),
      "}"
    ].join("\n"),
  haproxy: (_, configuration) => `global\n  log stderr format raw local0\n${configuration}`,
  apache2: ({ folder, port }, configuration) => {
    const modules = [
      "mpm_event",
      "authz_core",
      "proxy",
      "proxy_fcgi",
      "proxy_balancer",
      "slotmem_shm",
      "lbmethod_byrequests",
      "lbmethod_bybusyness"
    ]
    return [
      `ServerRoot "${folder}"`,
      `Listen 127.0.0.1:${port}`,
      "ServerName example.test",
      `PidFile ${folder}/httpd.pid`,
      `ErrorLog ${folder}/error.log`,
      `Mutex file:${folder}`,
      `DefaultRuntimeDir ${folder}`,
      `DocumentRoot ${folder}`,
      ...(asRoot ? ["User www-data", "Group www-data"] : []),
      "MaxKeepAliveRequests 0",
      ...modules.map((name) => `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`),
      configuration
    ].join("\n")
  },
  lighttpd: ({ folder, port }, configuration) =>
    [
      `server.document-root = "${folder}"`,
      `server.upload-dirs = ( "${folder}" )`,
      "server.bind = \"127.0.0.1\"",
      `server.port = ${port}`,
      "server.max-keep-alive-requests = 1000000",
      configuration
    ].join("\n"),
  caddy: ({ folder }, configuration) =>
    `{\n\tadmin off\n\tauto_https off\n\tstorage file_system ${folder}/data\n}\n${configuration}`
}

/** The configuration with what its server needs to run in the foreground in a folder of its own. */
export const wholeFile = (setup: Setup, places: Places): string =>
  `${wholeFiles[setup.server](places, setup.configuration(places))}\n`
