/**
 * The first minutes of a stranger, for each row of README's table "I have … | page": at most five commands, each copied from the
 * page, in a folder with what the row says that the stranger has, on a machine of his own, with the package as npm packs it. One path of each
 * row is tried, and with FULL=1 all of them.
 */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Machine from "../support/machine.ts"
import * as Packed from "../support/packed.ts"
import * as Pages from "../support/pages.ts"
import * as WebServers from "../support/webServers.ts"

interface Command {
  readonly command: string
  /** What it says, at its end. */
  readonly says?: RegExp
  /** Waits until it is ready, where it goes on. */
  readonly goesOn?: (
    terminal: Machine.Terminal,
    machine: Machine.Machine
  ) => Effect.Effect<unknown, WebServers.ProgramError>
}

interface Way {
  readonly name: string
  /** The row of README's table that leads to the page. */
  readonly row: string
  readonly page: string
  /** What the stranger has, by path; relative ones are in his folder. */
  readonly has?: Readonly<Record<string, string>>
  /** What a stranger who has this row's things has installed. */
  readonly installed?: ReadonlyArray<string>
  /** What runs already, as root. */
  readonly runs?: ReadonlyArray<string>
  /** What he copies from the page into a file, by path. */
  readonly writes?: Readonly<Record<string, string>>
  readonly commands: ReadonlyArray<Command>
}

const readme = Pages.read("README.md")

const page = (name: string) => Pages.read(`docs/${name}.md`)

/** A block of a page by its first line. */
const block = (name: string, language: string, title: string) => WebServers.documented(page(name), language, title)

const install = { command: "npm install effect-fastcgi effect @effect/platform-node" }
/** What somebody has who comes from another page. */
const theirs = {
  installed: ["effect-fastcgi", "effect", "@effect/platform-node"],
  has: { "package.json": JSON.stringify({ type: "module" }) }
}

const type = { command: "npm pkg set type=module" }
const folder = (group = "www-data") => ({
  command: `sudo install -d -o "$USER" -g ${group} -m 2750 /run/app`
})

/** README's program. */
const readmeMain = WebServers.documented(readme, "ts", "main.ts")

/** README's program, with the one route that `conformance` cannot do without. */
const echo = WebServers.fill(readmeMain, [
  [
    "HttpRouter.add(\"GET\", \"/\", HttpServerResponse.text(\"Hello from FastCGI\\n\"))",
    "HttpRouter.add(\"*\", \"/echo\", (request) => Effect.succeed(HttpServerResponse.stream(request.stream)))"
  ],
  ["import * as Layer", "import * as Effect from \"effect/Effect\"\nimport * as Layer"]
])

/** README's program, with the layer that a page says. */
const mainOf = (name: string): string => {
  const [layer = ""] = /NodeFastCgi\.layer\(\{ path[^}]*\}\)/.exec(page(name)) ?? []
  return WebServers.fill(readmeMain, [["NodeFastCgi.layer({ port: 9000 })", layer]])
}

/** The new side of a diff. */
const after = (diff: string) =>
  diff.split("\n").filter((line) => !line.startsWith("-")).map((line) => line.slice(1))
    .join("\n")

const diffs = Array.from(page("migrating").matchAll(/^```diff\n([\s\S]*?)^```$/gm), (match) => match[1]!)

type Ready = NonNullable<Command["goesOn"]>

const says = (pattern: RegExp): Ready => (terminal) => terminal.says(pattern)

const listening = says(/Listening on/)

/** What says nothing is ready when somebody gets an answer. */
const answers = (address: string): Ready => (_, machine) =>
  WebServers.eventually(address, machine.run(`npx effect-fastcgi ping ${address}`, { folder: "app" }))

// ---

const anApp = { row: "an Express, Fastify, Koa, Next, Hono or h3 app", page: "docs/frameworks.md" }

const app = { command: "node app.js", goesOn: answers("127.0.0.1:9000") }

const hello = { command: "npx effect-fastcgi request 127.0.0.1:9000 /", says: /Hello/ }

const appOf = (name: string) => block("frameworks", "js", `app.js: ${name}`)

const frameworks: ReadonlyArray<Way> = [
  ...["Express", "Koa", "Fastify", "Hono", "h3", "Elysia"].map((name): Way => ({
    name,
    ...anApp,
    installed: [name.toLowerCase(), ...(name === "Hono" ? ["@hono/node-server"] : [])],
    writes: { "app.js": appOf(name) },
    commands: [install, type, app, hello]
  })),
  {
    name: "an app that uses require",
    ...anApp,
    installed: ["express"],
    writes: {
      "app.js": WebServers.fill(appOf("Express"), [
        [
          "import { NodeFastCgiApp } from \"effect-fastcgi/node\"",
          /`(const .* = require\("effect-fastcgi.*\))`/.exec(page("frameworks"))![1]!
        ],
        ["import express from \"express\"", "const express = require(\"express\")"]
      ])
    },
    commands: [install, app, hello]
  },
  {
    name: "Next",
    ...anApp,
    installed: ["next", "react", "react-dom"],
    has: {
      "pages/index.js":
        `export const getServerSideProps = ({ req }) => ({ props: { address: req.socket.remoteAddress } })
export default function Page({ address }) {
  return <p>Hello {address}</p>
}
`
    },
    writes: { "server.js": block("frameworks", "js", "server.js: Next") },
    commands: [
      install,
      type,
      { command: "npx next build" },
      { command: "NODE_ENV=production node server.js", goesOn: answers("127.0.0.1:9000") },
      hello
    ]
  }
]

const curl = { command: "curl http://localhost/", says: /Hello from FastCGI/ }

/** An Effect app of README behind a web server. */
const behind = (
  name: string,
  group: string,
  configuration: Readonly<Record<string, string>>,
  commands: ReadonlyArray<Command>,
  runs: ReadonlyArray<string> = []
): Way => ({
  name,
  row: "a web server",
  page: `docs/${name}.md`,
  ...theirs,
  writes: { ...configuration, "main.ts": mainOf(name) },
  runs,
  commands: [folder(group), { command: "node main.ts", goesOn: listening }, ...commands, curl]
})

const smallest = (name: string, language: string) => block(name, language, "the smallest good configuration")

const phpFpm = `[global]
error_log = /var/log/php-fpm.log
[www]
user = www-data
group = www-data
listen = /run/php/php-fpm.sock
listen.owner = stranger
pm = static
pm.max_children = 2
`

const startPhpFpm = "php-fpm8.2 --daemonize --fpm-config /srv/fpm.conf --pid /run/php.pid"

const paths: ReadonlyArray<Way> = [
  {
    name: "README",
    row: "an Effect app",
    page: "README.md",
    writes: { "main.ts": readmeMain },
    commands: [
      install,
      type,
      { command: "node main.ts", goesOn: listening },
      { command: "npx effect-fastcgi request 127.0.0.1:9000 /", says: /^Hello from FastCGI$/m }
    ]
  },
  ...frameworks,
  {
    name: "node-fastcgi",
    row: "node-fastcgi, `proxy_pass`, Go's fcgi, mod_wsgi",
    page: "docs/migrating.md",
    has: theirs.has,
    writes: { "app.js": after(diffs[0]!) },
    commands: [
      install,
      folder(),
      { command: "node app.js", goesOn: answers("/run/app/app.sock") },
      { command: "npx effect-fastcgi request /run/app/app.sock /", says: /^Hello/ }
    ]
  },
  {
    name: "proxy_pass",
    row: "node-fastcgi, `proxy_pass`, Go's fcgi, mod_wsgi",
    page: "docs/migrating.md",
    has: theirs.has,
    writes: { "app.js": after(diffs[0]!), "/etc/nginx/conf.d/app.conf": after(diffs[1]!) },
    runs: ["nginx"],
    commands: [
      install,
      folder(),
      { command: "node app.js", goesOn: answers("/run/app/app.sock") },
      { command: "sudo systemctl reload nginx" },
      { command: "curl http://app.localhost/", says: /Hello 127\.0\.0\.1/ }
    ]
  },
  {
    name: "a PHP site",
    row: "a PHP site",
    page: "docs/php.md",
    has: { "site/index.php": "<?php echo \"Hello from PHP \" . (1 + 1);\n" },
    commands: [
      install,
      type,
      { command: "npx effect-fastcgi gateway --php site", goesOn: says(/answers for/) },
      { command: "curl http://127.0.0.1:8080/index.php", says: /Hello from PHP 2/ }
    ]
  },
  {
    name: "a PHP site that moves",
    row: "a PHP site",
    page: "docs/php.md",
    has: { ...theirs.has, "/srv/fpm.conf": phpFpm },
    runs: [startPhpFpm],
    commands: [
      install,
      { command: "cp -r node_modules/effect-fastcgi/examples/php moved" },
      { command: "node moved/main.ts /run/php/php-fpm.sock 8080", goesOn: listening },
      { command: "curl http://127.0.0.1:8080/", says: /A small site/ }
    ]
  },
  {
    name: "php-fpm",
    row: "php-fpm or another FastCGI application to call from Effect",
    page: "docs/client.md",
    has: { "/srv/www/index.php": "<?php echo \"page \" . $_GET['page'];\n", "/srv/fpm.conf": phpFpm },
    runs: [startPhpFpm],
    writes: { "client.ts": block("client", "ts", "client.ts") },
    commands: [install, type, { command: "node client.ts", says: /page 2/ }]
  },
  behind("nginx", "www-data", { "/etc/nginx/conf.d/app.conf": smallest("nginx", "nginx") }, [
    { command: "sudo rm /etc/nginx/sites-enabled/default" },
    { command: "sudo systemctl reload nginx" }
  ], ["nginx"]),
  behind("lighttpd", "www-data", {
    "/etc/lighttpd/conf-enabled/50-app.conf": smallest("lighttpd", "lighttpd")
  }, [{ command: "sudo systemctl restart lighttpd" }]),
  behind("apache", "www-data", { "/etc/apache2/sites-available/app.conf": smallest("apache", "apache") }, [
    { command: "sudo a2enmod proxy_fcgi && sudo a2dissite 000-default && sudo a2ensite app" },
    { command: "sudo systemctl restart apache2" }
  ]),
  behind("haproxy", "haproxy", {
    "/etc/haproxy/haproxy.cfg": Fs.existsSync("/etc/haproxy/haproxy.cfg")
      ? `${Fs.readFileSync("/etc/haproxy/haproxy.cfg", "utf8")}\n${smallest("haproxy", "haproxy")}`
      : ""
  }, [
    { command: "sudo sed -i '/chroot/d' /etc/haproxy/haproxy.cfg" },
    { command: "sudo systemctl restart haproxy" }
  ]),
  behind("caddy", "caddy", {
    "/etc/caddy/Caddyfile": WebServers.fill(smallest("caddy", "caddyfile"), [["www.example.org", "http://localhost"]])
  }, [{ command: "sudo systemctl restart caddy" }]),
  {
    name: "spawn-fcgi",
    row: "shared hosting, or a server that starts programs",
    page: "docs/starting.md",
    ...theirs,
    has: {
      ...theirs.has,
      // Where the page has the program: his folder.
      "/srv/app/README": ""
    },
    runs: ["install -d -o stranger /run/app", "rm -r /srv/app; ln -s /home/stranger/app /srv/app"],
    writes: { "main.js": WebServers.documented(page("starting"), "ts", "main.ts") },
    commands: [
      {
        command: "spawn-fcgi -n -s /run/app/app.sock -M 0660 -- /usr/bin/node /srv/app/main.js",
        goesOn: listening
      },
      { command: "npx effect-fastcgi request /run/app/app.sock /", says: /^Hello$/ }
    ]
  },
  {
    name: "CGI",
    row: "shared hosting, or a server that starts programs",
    page: "docs/cgi.md",
    ...theirs,
    has: {
      ...theirs.has,
      "main.js": WebServers.documented(page("starting"), "ts", "main.ts")
    },
    commands: [{
      command: "GATEWAY_INTERFACE=CGI/1.1 SERVER_PROTOCOL=HTTP/1.1 REQUEST_METHOD=GET REQUEST_URI=/ node main.js",
      says: /Status: 200[\s\S]*Hello/
    }]
  },
  {
    name: "an Authorizer",
    row: "pages to guard",
    page: "docs/authorizers.md",
    ...theirs,
    writes: { "auth.ts": block("authorizers", "ts", "auth.ts") },
    commands: [
      folder(),
      {
        command: "node auth.ts",
        goesOn: (_, machine) => WebServers.eventually("auth.sock", machine.run("test -S /run/app/auth.sock"))
      },
      {
        command:
          "npx effect-fastcgi request /run/app/auth.sock /private/ --role authorizer -i -H \"Cookie: session=31415\"",
        says: /Variable-AUTH_USER: ann/i
      },
      {
        command: "npx effect-fastcgi request /run/app/auth.sock /private/ --role authorizer -i",
        says: /Location: \/login/i
      }
    ]
  },
  {
    name: "operations",
    row: "something to operate",
    page: "docs/operations.md",
    ...theirs,
    commands: [
      { command: "cp node_modules/effect-fastcgi/examples/operations/main.ts operations.ts" },
      {
        command: "FASTCGI_LISTEN=127.0.0.1:9000 FASTCGI_STATUS_PATH=/status node operations.ts",
        goesOn: answers("127.0.0.1:9000")
      },
      { command: "curl http://127.0.0.1:9254/metrics", says: /fastcgi_/ },
      { command: "npx effect-fastcgi status 127.0.0.1:9000", says: /Application +www/ }
    ]
  },
  {
    name: "two hosts",
    row: "many hosts",
    page: "docs/scale-out.md",
    has: theirs.has,
    runs: [
      "rm /etc/nginx/sites-enabled/default",
      "ip addr add 10.0.0.11/24 dev lo; ip addr add 10.0.0.12/24 dev lo",
      "nginx"
    ],
    writes: {
      "main.ts": WebServers.fill(readmeMain, [
        ["NodeFastCgi.layer({ port: 9000 })", "NodeFastCgi.layerConfig(NodeFastCgi.config)"]
      ]),
      "/etc/nginx/conf.d/app.conf": block("scale-out", "nginx", "two hosts, and no request is lost")
    },
    commands: [
      install,
      { command: "FASTCGI_LISTEN=10.0.0.11:9000 FASTCGI_ALLOW=10.0.0.0/24 node main.ts", goesOn: listening },
      { command: "FASTCGI_LISTEN=10.0.0.12:9000 FASTCGI_ALLOW=10.0.0.0/24 node main.ts", goesOn: listening },
      { command: "sudo systemctl reload nginx" },
      curl
    ]
  },
  {
    name: "the command",
    row: "a FastCGI application to look at",
    page: "docs/tools.md",
    ...theirs,
    has: { ...theirs.has, "app.js": after(diffs[0]!).replace("/run/app/", "/run/") },
    runs: [
      "cd '/home/stranger/app' && (node app.js >/run/app.log 2>&1 &) && until [ -S /run/app.sock ]; do sleep 0.05; done; chmod 666 /run/app.sock"
    ],
    commands: [{ command: "npx effect-fastcgi request /run/app.sock /users?page=2", says: /^Hello/ }]
  },
  {
    name: "a server as a channel",
    row: "a server or a tool to build on the protocol",
    page: "docs/streams.md",
    writes: { "channel.ts": block("streams", "ts", "channel.ts") },
    commands: [install, type, { command: "node channel.ts" }]
  },
  {
    name: "conformance",
    row: "doubts about the protocol",
    page: "docs/conformance.md",
    ...theirs,
    has: { ...theirs.has, "main.ts": echo },
    runs: [
      "cd /home/stranger/app && (node main.ts >/run/app.log 2>&1 &) && until (exec 3<>/dev/tcp/127.0.0.1/9000) 2>/run/none; do sleep 0.05; done"
    ],
    commands: [{ command: "npx effect-fastcgi conformance 127.0.0.1:9000 --only 5.4", says: /5\.4/ }]
  }
]

describe("the paths of README's table", () => {
  const rows = Array.from(
    readme.matchAll(/^\| (an? [^|]*|[^|]*[a-z][^|]*?) +\| .*\.md\)|^\| (an Effect app) +\|/gm),
    (match) => (match[1] ?? match[2])!.trim()
  )

  // test/examples/docker.test.ts carries out the files of this row: it needs no container engine.
  const elsewhere = "containers, Kubernetes"

  it("leave no row out, and are of the page that the row leads to", () => {
    assert.isAtLeast(rows.length, 10)
    assert.deepStrictEqual(rows.filter((row) => !paths.some((path) => path.row === row)), [elsewhere])
    assert.deepStrictEqual(paths.filter(({ row }) => !rows.includes(row)), [])
  })

  for (const { commands, name, page } of paths) {
    it(`have at most five commands, each of which is on the page: ${name}`, () => {
      const steps = Pages.stepsOf(Pages.read(page)).flatMap((step) => step._tag === "Command" ? [step.command] : [])
      assert.isAtMost(commands.length, 5)
      assert.isAtLeast(commands.length, 1)
      assert.deepStrictEqual(commands.map(({ command }) => command).filter((command) => !steps.includes(command)), [])
    })
  }
})

const programs = ["nginx", "lighttpd", "apachectl", "haproxy", "caddy", "php-fpm8.2", "spawn-fcgi", "curl"]

Machine.describeWith(programs, "a stranger", () => {
  const full = process.env["FULL"] === "1"
  const scope = Scope.makeUnsafe()
  let tarball: string
  /** The folders in which a command `npm install …` has been run, by command. */
  const installed = new Map<string, string>()

  beforeAll(() =>
    Effect.runPromise(Effect.provideService(Packed.pack, Scope.Scope, scope)).then((path) => tarball = path)
  )
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

  /**
   * Runs the command of a page in a folder. What the same command has made of an empty folder before is linked into this one, which
   * takes a tenth of the time; with FULL=1 each runs.
   */
  const npmInstall = Effect.fnUntraced(function*(command: string, at: string) {
    if (full) return yield* Packed.install(command, tarball, at)
    let before = installed.get(command)
    if (before === undefined) {
      before = yield* Effect.provideService(WebServers.temporaryDirectory, Scope.Scope, scope)
      yield* Packed.install(command, tarball, before)
      installed.set(command, before)
    }
    return yield* Packed.link(before, at)
  })

  /** One path of each row, and with FULL=1 all of them. */
  const tried = full ? paths : paths.filter(({ row }, index) => index === paths.findIndex((path) => path.row === row))

  for (const { commands, has = {}, installed: packages = [], name, runs = [], writes = {} } of tried) {
    it.live(`gets there: ${name}`, () =>
      Effect.gen(function*() {
        const machine = yield* Machine.make
        const home = Path.join(machine.home, "app")
        Fs.mkdirSync(home)
        const write = (files: Readonly<Record<string, string>>) =>
          Effect.forEach(Object.entries(files), ([path, content]) =>
            machine.write(path.startsWith("/") ? path : `/home/stranger/app/${path}`, content))
        const npm = (command: string) =>
          Effect.andThen(
            npmInstall(command, home),
            machine.run("chown -R stranger: .", { folder: "app", user: "root" })
          )

        if (packages.length > 0) {
          yield* npm(`npm install ${packages.join(" ")}`)
        }
        yield* write(has)
        for (const command of runs) {
          yield* machine.run(command, { user: "root" })
        }
        yield* write(writes)
        for (const { command, goesOn, says } of commands) {
          if (command.startsWith("npm install ")) {
            yield* npm(command)
          } else if (goesOn !== undefined) {
            const terminal = yield* machine.start(command, { folder: "app" })
            yield* goesOn(terminal, machine)
          } else {
            // A web server that has been told to reload does so a little later.
            yield* WebServers.eventually(
              command,
              Effect.filterOrFail(
                machine.run(command, { folder: "app" }),
                (said) =>
                  says === undefined || says.test(said),
                (said) => said
              )
            )
          }
        }
      }))
  }
})
