/**
 * docs/tutorial.md as its reader follows it: each file is written, and each command run, in the order of the page, on a machine
 * that is the reader's own.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Machine from "../support/machine.ts"
import * as Packed from "../support/packed.ts"
import * as Pages from "../support/pages.ts"
import * as WebServers from "../support/webServers.ts"

const steps = Pages.stepsOf(Pages.read("docs/tutorial.md"))

/** The commands that go on until Ctrl-C, each with what it says when it is ready, or what succeeds then. */
const goOn = new Map<string, { readonly says: string } | { readonly succeeds: string }>([
  ["FASTCGI_LISTEN=127.0.0.1:9000 node main.ts", { says: "Listening on" }],
  ["nginx -p . -c nginx.conf -e stderr", { succeeds: "curl -sk https://localhost:8443/" }],
  ["curl --cacert localhost.crt -N https://localhost:8443/events", { says: ": alive" }]
])

/** What the others have to say, where the page says it. */
const answers = new Map([
  ["npx effect-fastcgi request 127.0.0.1:9000 /", /^Hello$/m],
  ["UPLOADS=$(mktemp -d) npx vitest run", /1 passed/],
  ["curl --cacert localhost.crt -i -F file=@main.ts https://localhost:8443/uploads", /^HTTP\/1\.1 303 /m],
  ["sudo nginx -t", /test is successful/],
  ["curl --cacert localhost.crt -i -F file=@main.ts https://localhost/uploads", /^HTTP\/1\.1 303 /m]
])

describe("docs/tutorial.md", () => {
  it("has every command that is waited for or whose answer is looked at", () => {
    const commands = steps.flatMap((step) => step._tag === "Command" ? [step.command] : [])
    assert.deepStrictEqual([...goOn.keys(), ...answers.keys()].filter((command) => !commands.includes(command)), [])
    assert.deepStrictEqual(steps.filter((step) => step._tag === "Other"), [])
  })
})

const programs = ["nginx", "curl", "openssl", "systemd-analyze", "systemd-notify"]

Machine.describeWith(programs, "a reader of docs/tutorial.md", () => {
  it.live("gets from an empty folder to a server", () =>
    Effect.gen(function*() {
      const tarball = yield* Packed.pack
      const machine = yield* Machine.make
      // A server that nginx has been installed on runs it.
      yield* machine.run("nginx", { user: "root" })
      let folder = ""
      let restarted = false
      let terminals = new Map<string, Machine.Terminal>()
      for (const step of steps) {
        if (step._tag === "Heading") {
          // The section before has said so: "Ctrl-C stops the app".
          for (const terminal of [...terminals.values()].reverse()) yield* terminal.interrupt
          terminals = new Map()
        } else if (step._tag === "File") {
          Fs.writeFileSync(Path.join(machine.home, folder, step.name), step.content)
        } else if (step._tag === "Command") {
          const { command } = step
          const ready = goOn.get(command)
          if (command.startsWith("cd ")) folder = Path.join(folder, command.slice("cd ".length))
          else if (command.startsWith("npm install ")) {
            yield* Packed.install(command, tarball, Path.join(machine.home, folder))
            yield* machine.run("chown -R stranger: .", { folder, user: "root" })
          } else if (ready !== undefined) {
            const terminal = yield* machine.start(command, { folder })
            yield* "says" in ready
              ? terminal.says(ready.says)
              : WebServers.eventually(command, machine.run(ready.succeeds, { folder }))
            terminals.set(command, terminal)
          } else if (command === "sudo systemctl restart uploads") {
            // "`FastCgiServer.stopping` ends it then": a watcher's stream comes to its end, and does not break off.
            const watcher = yield* machine.start("curl -sN --cacert localhost.crt https://localhost/events", { folder })
            yield* watcher.says(/^data: \/uploads\//m)
            yield* machine.run(command, { folder })
            assert.strictEqual((yield* watcher.ended).code, 0)
            restarted = true
          } else {
            const said = yield* machine.run(command, { folder })
            assert.match(said, answers.get(command) ?? /^/, command)
            // nginx is told to reload, and nobody tells when it has.
            if (command === "sudo systemctl reload nginx") {
              yield* WebServers.eventually(command, machine.run("curl -sk https://localhost/", { folder }))
            }
            // "The third terminal says where the upload is."
            const watching = terminals.get("curl --cacert localhost.crt -N https://localhost:8443/events")
            if (command.includes(":8443/uploads")) {
              const path = yield* watching!.says(/\/uploads\/[0-9a-f-]{36}/)
              const main = yield* machine.run(`curl -s --cacert localhost.crt https://localhost:8443${path}`, {
                folder
              })
              assert.strictEqual(main, Fs.readFileSync(Path.join(machine.home, folder, "main.ts"), "utf8"))
              // A file of any type, as a browser names it.
              const json = yield* machine.run(
                command.replace("@main.ts", "'@package.json;type=application/json'"),
                { folder }
              )
              assert.include(json, "HTTP/1.1 303")
            }
          }
        }
      }
      // "The file is in /var/lib/uploads", and nobody but the app gets to it or to the socket.
      const stored = yield* machine.run("find /var/lib/uploads /run/uploads -printf '%M %u %g %y\\n'", { user: "root" })
      assert.deepStrictEqual(stored.trim().split("\n").sort(), [
        "-rw-r--r-- uploads www-data f",
        "drwx------ uploads www-data d",
        "drwxr-x--- uploads www-data d",
        "srw-rw---- uploads www-data s"
      ])
      assert.isTrue(restarted)
      // The app that was started again answers and lists what it has, and plain HTTP leads to TLS.
      const home = yield* machine.run("curl -sL --cacert localhost.crt http://localhost/", { folder })
      assert.include(home, "multipart/form-data")
      assert.match(home, /<li><a href="\/uploads\/[0-9a-f-]{36}">/)
    }), 300_000)
})
