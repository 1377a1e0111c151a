/**
 * Certificates and keys from files that settings of the environment name.
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import { settingError, text } from "../../settings/settings.ts"
import { errorText } from "./listenerError.ts"

/** The contents of the files that `…_CA`, `…_CERT` and `…_KEY` name. */
export const tlsFiles = (prefix: string) =>
  Config.all({ ca: file(`${prefix}_CA`), cert: file(`${prefix}_CERT`), key: file(`${prefix}_KEY`) })

/** PEM as Node takes it. */
export const pem = (text: string | Uint8Array): string | Buffer => typeof text === "string" ? text : Buffer.from(text)

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const file = (name: string): Config.Config<string | undefined> =>
  Config.mapEffect(text(name), (path) =>
    path === undefined ? Effect.succeed(undefined) : Effect.try({
      try: () => Fs.readFileSync(path, "utf8"),
      catch: (cause) => settingError(`${name}=${JSON.stringify(path)}: expected a file in PEM: ${errorText(cause)}`)
    }))
