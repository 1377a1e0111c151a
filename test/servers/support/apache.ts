/**
 * Apache in front of the application: one process, with a virtual host for every row of the matrix. mod_proxy_fcgi connects to an
 * application of one process, mod_fcgid starts processes of its own.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { projectRoot } from "../../support/files.ts"
import { programFile } from "../../support/programFile.ts"
import { requireCommand } from "../../support/requirement.ts"
import * as WebServers from "../../support/webServers.ts"
import * as Application from "./application.ts"
import { request } from "./http.ts"
import { type Differences, type Row, Site } from "./site.ts"

export interface ApacheRow extends Row {
  /** The virtual host's directives, with the places to connect to left open. */
  readonly directives: (places: Places) => string
}

interface Places {
  readonly socket: string
  readonly appPort: number
  readonly control: string
  /** A name for a balancer that no other row has. */
  readonly balancer: string
}

/** Where Debian installs the modules. */
const moduleFolder = "/usr/lib/apache2/modules"

/** mod_fcgid, which is a package of its own. */
export const fcgidModule = `${moduleFolder}/mod_fcgid.so`

/** A snippet of docs/apache.md. */
const documented = (title: string) =>
  WebServers.documented(Fs.readFileSync(Path.join(projectRoot, "docs/apache.md"), "utf8"), "apache", title)

const whole = "Apache collects a response until it has some kilobytes of it"

const silentBeforeResponse = "Apache looks after its client when it has something to write to it"

const noticesAtNextWrite = "Apache takes the end of what a client sends for no more than that"

const common: Differences = {
  silentBeforeResponse,
  paths: {
    "/nul%00byte": [404, "Apache finds nothing for %00 in a path"],
    "/bad%zzescape": [400, "Apache refuses a % that no hexadecimal number follows"]
  }
}

const proxied: Differences = {
  ...common,
  chunksHaveNoLength: "mod_proxy_fcgi passes a long body on before it knows its length",
  responsesArrive: ["at its end", whole],
  dropsLength: "mod_proxy_fcgi wants to be told ap_trust_cgilike_cl"
}

const flushed: Differences = { ...proxied, responsesArrive: undefined, noticesAtNextWrite }

const handlerPath = "with SetHandler the path is decoded and must not hold that"

const handled: Differences = {
  ...proxied,
  paths: {
    ...common.paths,
    "/what%3Fis%23this": [403, handlerPath],
    "/a%0d%0ab": [403, handlerPath]
  }
}

const proxyRow = (name: string, differences: Differences, directives: ApacheRow["directives"]): ApacheRow => ({
  name,
  differences,
  directives: (places) => `
    AllowEncodedSlashes On
    SetEnvIf Authorization "(.+)" HTTP_AUTHORIZATION=$1
    ${directives(places)}`
})

/** mod_proxy_fcgi, in the ways to reach the application and to pass on what it answers. */
export const proxyMatrix: ReadonlyArray<ApacheRow> = [
  proxyRow("ProxyPass, TCP", proxied, ({ appPort }) => `ProxyPass "/" "fcgi://127.0.0.1:${appPort}/"`),
  proxyRow("ProxyPass, UNIX", proxied, ({ socket }) => `ProxyPass "/" "unix:${socket}|fcgi://localhost/"`),
  proxyRow("SetHandler, TCP", handled, ({ appPort }) => `
    <Location "/">
      SetHandler "proxy:fcgi://127.0.0.1:${appPort}"
    </Location>`),
  proxyRow("SetHandler, UNIX", handled, ({ socket }) => `
    <Location "/">
      SetHandler "proxy:unix:${socket}|fcgi://localhost"
    </Location>`),
  proxyRow("ProxyPass, TCP, enablereuse=on", proxied, ({ appPort }) => `
    ProxyPass "/" "fcgi://127.0.0.1:${appPort}/" enablereuse=on`),
  proxyRow("ProxyPass, UNIX, flushpackets=on", flushed, ({ socket }) => `
    ProxyPass "/" "unix:${socket}|fcgi://localhost/" flushpackets=on`),
  proxyRow("balancer", proxied, ({ appPort, balancer, socket }) => `
    <Proxy "balancer://${balancer}">
      BalancerMember "unix:${socket}|fcgi://one"
      BalancerMember "fcgi://127.0.0.1:${appPort}"
    </Proxy>
    ProxyPass "/" "balancer://${balancer}/"`)
]

/** mod_proxy_fcgi that collects, but passes the length of a response on. */
export const proxyWithLength: ApacheRow = proxyRow(
  "ProxyPass, UNIX, ap_trust_cgilike_cl",
  { ...proxied, dropsLength: undefined },
  ({ socket }) => `SetEnv ap_trust_cgilike_cl 1\nProxyPass "/" "unix:${socket}|fcgi://localhost/"`
)

/** What docs/apache.md says of mod_proxy_fcgi. */
export const proxyPages: ReadonlyArray<ApacheRow> = [
  {
    name: "docs/apache.md, the smallest good configuration",
    directives: ({ socket }) => documentedContents("the smallest good configuration", [["/run/app/app.sock", socket]]),
    differences: { ...flushed, dropsLength: undefined }
  },
  {
    name: "docs/apache.md, several applications",
    directives: ({ appPort, balancer, socket }) =>
      documentedContents("several applications", [
        ["balancer://app", `balancer://${balancer}`],
        ["/run/app/one.sock", socket],
        ["unix:/run/app/two.sock|fcgi://two", `fcgi://127.0.0.1:${appPort}`]
      ]),
    differences: { ...flushed, dropsLength: undefined }
  }
]

const errorPage = "mod_fcgid puts its own error page behind what it has sent"

const spawned: Differences = {
  ...common,
  getHasLength: "mod_fcgid sends CONTENT_LENGTH=0 for a request without a body",
  cutEndsInErrorPage: errorPage
}

/** mod_fcgid, in the ways to pass on what the application answers. */
export const fcgidMatrix: ReadonlyArray<ApacheRow> = [{
  name: "FcgidWrapper",
  directives: ({ control }) => `
    AllowEncodedSlashes On
    FcgidPassHeader Authorization
    FcgidMaxRequestLen 1000000000
    <Location "/">
      Options +ExecCGI
      SetHandler fcgid-script
      FcgidWrapper "${program(control)}" virtual
    </Location>`,
  differences: {
    ...spawned,
    responsesArrive: ["at its end", "FcgidOutputBufferSize is 64 KiB unless it is set"]
  }
}]

/** mod_fcgid with a few processes, as a machine with many clients needs them. */
export const fcgidLoad: ApacheRow = {
  ...fcgidMatrix[0]!,
  name: "FcgidWrapper, FcgidMaxProcessesPerClass 4",
  directives: (places) => `FcgidMaxProcessesPerClass 4\n${fcgidMatrix[0]!.directives(places)}`
}

/** What docs/apache.md says of mod_fcgid. */
export const fcgidPages: ReadonlyArray<ApacheRow> = [{
  name: "docs/apache.md, mod_fcgid starts the application",
  directives: ({ control }) =>
    documentedContents("mod_fcgid starts the application", [["/usr/bin/node /srv/app/main.js", program(control)]]),
  differences: { ...spawned, noticesAtNextWrite }
}]

/** What is inside of the virtual host of a snippet of docs/apache.md, at other places. */
export const documentedContents = (
  title: string,
  places: ReadonlyArray<readonly [placeholder: string, value: string]>
): string => contents(WebServers.fill(documented(title), places))

// The port is the test's.
const contents = (page: string): string => {
  const inside = /<VirtualHost \*:80>\n([\s\S]*)<\/VirtualHost>/.exec(page)?.[1]
  if (inside === undefined) throw new Error(`no virtual host in\n${page}`)
  return inside
}

/** The program that mod_fcgid starts. */
const program = (control: string) => [process.execPath, ...Application.command(control)].join(" ")

/** Starts Apache and, behind it, the application: of one process, or of those that mod_fcgid starts. */
export const layer = (apache: string, kind: "mod_proxy_fcgi" | "mod_fcgid", rows: ReadonlyArray<ApacheRow>) =>
  Layer.effect(
    Site,
    Effect.gen(function*() {
      const folder = yield* WebServers.temporaryDirectory
      const socket = Path.join(folder, "app.sock")
      const control = Path.join(folder, "control.sock")
      const appPort = yield* WebServers.freePort
      // Apache does not run as root, and never as the user who runs the tests as root.
      Fs.chmodSync(folder, 0o755)
      const application: Application.Conversation = kind === "mod_fcgid"
        ? yield* Application.converse(control)
        : yield* Application.start(control, "--path", socket, "--mode", "666", "--port", String(appPort))
      const ports = new Map<string, number>()
      const hosts: Array<string> = []
      for (const row of rows) {
        const port = yield* WebServers.freePort
        ports.set(row.name, port)
        hosts.push(host(port, row.directives({ socket, appPort, control, balancer: `app${hosts.length}` })))
      }
      const server = yield* start(apache, folder, hosts.join(""), [...ports.values()], kind)
      // mod_fcgid starts the first process with the first request.
      if (kind === "mod_fcgid") {
        for (const port of ports.values()) {
          yield* Effect.mapError(
            request(port, "/hello"),
            (error) => new WebServers.ProgramError({ message: `${error.message}\n${server.log()}` })
          )
        }
      }
      yield* Effect.mapError(
        application.started(1),
        (error) => new WebServers.ProgramError({ message: `${error.message}\n${server.log()}` })
      )
      return Site.of({ server, folder, application, port: (row) => ports.get(row.name)! })
    })
  )

/** A virtual host at the port, with `Listen`. */
export const host = (port: number, directives: string) => `
Listen 127.0.0.1:${port}
<VirtualHost 127.0.0.1:${port}>
  ${directives}
</VirtualHost>
`

const modules = {
  mod_proxy_fcgi: ["env", "setenvif", "proxy", "proxy_fcgi", "slotmem_shm", "proxy_balancer", "lbmethod_byrequests"],
  mod_fcgid: ["fcgid"]
}

/** The user as whom Apache runs when it is started as root. Debian's own. */
const user = "www-data"

/** Starts Apache with the configuration and waits until it accepts at the ports. */
export const start = (
  apache: string,
  folder: string,
  configuration: string,
  ports: ReadonlyArray<number>,
  kind: "mod_proxy_fcgi" | "mod_fcgid",
  /** Further modules. They are loaded first, as Debian loads those for authentication, which decides who is asked first. */
  others: ReadonlyArray<string> = []
) =>
  Effect.suspend(() => {
    const file = Path.join(folder, "apache.conf")
    const own = Path.join(folder, "apache")
    Fs.mkdirSync(own, { recursive: true })
    if (process.getuid?.() === 0) Fs.chmodSync(own, 0o777)
    Fs.writeFileSync(
      file,
      `ServerRoot "${own}"
ServerName example.test
PidFile "${own}/apache.pid"
DefaultRuntimeDir "${own}"
Mutex file:${own}
# A socket that stderr may be cannot be opened by name.
ErrorLog "|$/bin/cat >&2"
User ${user}
Group ${user}
DocumentRoot "${own}"
KeepAlive On
MaxKeepAliveRequests 0
${["mpm_event", "authz_core", ...others, ...modules[kind]].map(loadModule).join("\n")}
# One child with more threads than clients. One that has too few or too many closes connections, just when a client sends.
StartServers 1
ThreadLimit 256
ThreadsPerChild 256
MaxSpareThreads 1024
MaxRequestWorkers 1024
${
        kind === "mod_fcgid"
          ? `FcgidIPCDir "${own}/fcgid"\nFcgidProcessTableFile "${own}/fcgid-table"\n`
          : ""
      }${configuration}`
    )
    const args = ["-D", "FOREGROUND", "-f", file]
    const reads = kind === "mod_proxy_fcgi" || process.getuid?.() !== 0 ||
      isOpen(programFile("test/servers/app.ts")) && isOpen(process.execPath)
    return WebServers.start({
      name: "Apache",
      ...(reads
        ? { command: apache, args }
        : { command: requireCommand("setpriv"), args: [...readsAll, apache, ...args] }),
      ready: Effect.forEach(ports, (port) => WebServers.accepts({ host: "127.0.0.1", port }))
    })
  })

/** Whether every user may enter all directories above the file. */
const isOpen = (path: string): boolean => {
  const parent = Path.dirname(path)
  return (Fs.statSync(parent).mode & 0o001) !== 0 && (parent === path || isOpen(parent))
}

// Where only root may read the project, as in a temporary directory, the application that Apache's user starts may do so, too.
const readsAll = [
  "--inh-caps=+dac_override",
  "--ambient-caps=+dac_override",
  "--securebits=+no_setuid_fixup"
]

export const loadModule = (name: string) => `LoadModule ${name}_module ${moduleFolder}/mod_${name}.so`
