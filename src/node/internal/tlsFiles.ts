/**
 * Certificates and keys from files that settings of the environment name.
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as Crypto from "node:crypto"
import * as Fs from "node:fs"
import { settingError, text } from "../../settings/settings.ts"
import { errorCode, errorText } from "./listenerError.ts"
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

/**
 * Says which of certificate, key and authorities cannot be used, and what to do. Node's own errors name none of them, and Node
 * takes a text without a certificate for a list of no authorities, which would refuse every peer.
 */
export const certificateProblem = ({ ca, cert, key }: TlsCertificates): string | undefined => {
  const certificate = attempt(() => new Crypto.X509Certificate(pem(cert)))
  if (Result.isFailure(certificate)) return `the certificate is none in PEM (${certificate.failure}).`
  const privateKey = attempt(() => Crypto.createPrivateKey(pem(key)))
  if (Result.isFailure(privateKey)) {
    return /ENCRYPTED/.test(pem(key).toString("latin1"))
      ? "the key has a passphrase. Remove it: openssl pkey -in FILE -out OTHER_FILE"
      : `the key is no private key in PEM (${privateKey.failure}).`
  }
  if (!certificate.success.checkPrivateKey(privateKey.success)) {
    return "the key is not that of the certificate. The file of the certificate begins with the listener's own one."
  }
  if (ca === undefined) return undefined
  const authorities = pem(ca).toString("latin1").split("-----BEGIN ").filter((text) =>
    /^(?:X509 |TRUSTED )?CERTIFICATE-----/.test(text)
  )
  if (authorities.length === 0) return "the authorities are no certificates in PEM."
  const wrong = authorities.map((text) => attempt(() => new Crypto.X509Certificate(`-----BEGIN ${text}`))).find(
    Result.isFailure
  )
  return wrong === undefined ? undefined : `an authority is no certificate in PEM (${wrong.failure}).`
}

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const attempt = <A>(make: () => A): Result.Result<A, string> => Result.try({ try: make, catch: errorText })

const file = (name: string): Config.Config<string | undefined> =>
  Config.mapEffect(text(name), (path) => path === undefined ? Effect.succeed(undefined) : read(name, path))

const read = (name: string, path = ""): Effect.Effect<string, Config.ConfigError> =>
  Effect.try({
    try: () => Fs.readFileSync(path, "utf8"),
    catch: (cause) => settingError(`${name}=${JSON.stringify(path)}: expected a file in PEM; ${whyNotRead(cause)}`)
  })

const whyNotRead = (cause: unknown): string => {
  switch (errorCode(cause)) {
    case "ENOENT":
      return "there is no such file"
    case "EACCES":
    case "EPERM":
      return "this program's user may not read it"
    case "EISDIR":
      return "it is a directory"
    default:
      return errorText(cause)
  }
}

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
