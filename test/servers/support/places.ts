/**
 * What a server that sends files itself needs beside its configuration: the files, and the application.
 */
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as WebServers from "../../support/webServers.ts"
import * as Application from "./application.ts"

/** Names that a web server which decodes, or does not encode, takes for others. */
export const fileNames = [
  "plain.txt",
  "a b+c.txt",
  "100%.txt",
  "%41.txt",
  "what?is#this.txt",
  "grüße €.txt",
  "sub/deep file.txt"
]

/** Where everything is. */
export interface Places {
  readonly folder: string
  /** Holds a file of each of `fileNames`, with the content `content of <name>`. */
  readonly files: string
}

/** The files, in a folder that any user may enter, and the application on a socket beside them, with these arguments. */
export const start = (args: (places: Places) => ReadonlyArray<string> = () => []) =>
  Effect.gen(function*() {
    const folder = Fs.realpathSync(yield* WebServers.temporaryDirectory)
    Fs.chmodSync(folder, 0o755)
    const files = Path.join(folder, "files")
    for (const name of fileNames) {
      const file = Path.join(files, name)
      Fs.mkdirSync(Path.dirname(file), { recursive: true })
      Fs.writeFileSync(file, `content of ${name}`)
    }
    const places: Places = { folder, files }
    const socket = Path.join(folder, "app.sock")
    const control = Path.join(folder, "control.sock")
    const application = yield* Application.start(control, "--path", socket, ...args(places))
    const port = yield* WebServers.freePort
    return { ...places, application, port, socket }
  })
