/**
 * Certificates and keys from files that settings of the environment name.
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import * as Fs from "node:fs"
import { settingError, text } from "../../settings/settings.ts"
import { errorText } from "./listenerError.ts"
import type { TlsCertificates } from "./listenerOptions.ts"

/** The contents of the files that `…_CA`, `…_CERT` and `…_KEY` name. */
export const tlsFiles = (prefix: string) =>
  Config.all({ ca: file(`${prefix}_CA`), cert: file(`${prefix}_CERT`), key: file(`${prefix}_KEY`) })

/** The files that `…_CA`, `…_CERT` and `…_KEY` name, read once more at each SIGHUP. A file that cannot be read is logged. */
export const tlsRenewals = (prefix: string): Config.Config<Stream.Stream<TlsCertificates>> =>
  Config.map(
    Config.all({ ca: text(`${prefix}_CA`), cert: text(`${prefix}_CERT`), key: text(`${prefix}_KEY`) }),
    ({ ca, cert, key }) =>
      Stream.filterMapEffect(hangUps, () =>
        Effect.all({
          cert: read(`${prefix}_CERT`, cert),
          key: read(`${prefix}_KEY`, key),
          ca: ca === undefined ? Effect.succeed(undefined) : read(`${prefix}_CA`, ca)
        }).pipe(
          Effect.tapError(({ message }) => Effect.logError(`The certificates stay as they are: ${message}`)),
          Effect.result
        ))
  )

/** PEM as Node takes it. */
export const pem = (text: string | Uint8Array): string | Buffer => typeof text === "string" ? text : Buffer.from(text)

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const file = (name: string): Config.Config<string | undefined> =>
  Config.mapEffect(text(name), (path) => path === undefined ? Effect.succeed(undefined) : read(name, path))

const read = (name: string, path = ""): Effect.Effect<string, Config.ConfigError> =>
  Effect.try({
    try: () => Fs.readFileSync(path, "utf8"),
    catch: (cause) => settingError(`${name}=${JSON.stringify(path)}: expected a file in PEM: ${errorText(cause)}`)
  })

const hangUps: Stream.Stream<void> = Stream.callback((queue) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const onSignal = () => void Queue.offerUnsafe(queue, undefined)
      process.on("SIGHUP", onSignal)
      return onSignal
    }),
    (onSignal) => Effect.sync(() => process.off("SIGHUP", onSignal))
  )
)
