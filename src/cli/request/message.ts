/**
 * The request that a command line describes: its params, and its body.
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Stream from "effect/Stream"
import * as Path from "node:path"
import * as CgiParams from "../../cgi/CgiParams.ts"
import type { FastCgiClientBody, FastCgiClientRequest } from "../../client/FastCgiClient.ts"
import { Role } from "../../protocol/FastCgiRecord.ts"
import type { RequestOptions } from "../commands/request.ts"
import { type CommandFailure, unreadable, usage } from "../internal/failure.ts"

/** The part of the command line that says what is sent. */
export type MessageOptions = Pick<
  RequestOptions,
  "url" | "method" | "headers" | "data" | "form" | "script" | "root" | "params" | "role" | "filter" | "head"
>

/** A request, and what of it the answer is read by. */
export interface Message {
  readonly method: string
  readonly request: FastCgiClientRequest<CommandFailure>
}

/** Makes the request. */
export const makeMessage = Effect.fnUntraced(function*(
  options: MessageOptions
): Effect.fn.Return<Message, CommandFailure, FileSystem.FileSystem> {
  if (options.data.length > 0 && options.form.length > 0) return yield* usage("--data and --form exclude each other.")
  const script = options.script === undefined
    ? undefined
    : options.root === undefined
    ? options.script
    : Path.posix.resolve("/", options.root, options.script)
  const { host, scheme, target } = yield* parseUrl(
    options.url ?? (script === undefined ? "/" : `/${Path.posix.basename(script)}`)
  )
  const headers = yield* Effect.forEach(options.headers, parseHeader)
  const body = options.form.length > 0
    ? yield* multipart(options.form)
    : options.data.length > 0
    ? yield* dataBody(options.data)
    : undefined
  const method = options.method ?? (options.head ? "HEAD" : body === undefined ? "GET" : "POST")
  const given = (name: string) => headers.some(([other]) => other.toLowerCase() === name)
  const filtered = options.filter === undefined ? undefined : yield* fileBody(options.filter)
  const params = CgiParams.fromRequest({
    method,
    url: target,
    headers: [
      ...headers,
      ...(given("user-agent") ? [] : [["User-Agent", "effect-fastcgi"] as const]),
      ...(given("accept") ? [] : [["Accept", "*/*"] as const])
    ],
    scheme,
    host,
    contentType: given("content-type") ? undefined : body?.type,
    contentLength: body?.size,
    remoteAddress: "127.0.0.1",
    documentRoot: options.root,
    scriptFilename: script,
    extra: {
      ...(filtered === undefined ? {} : {
        FCGI_DATA_LENGTH: String(filtered.size),
        FCGI_DATA_LAST_MOD: String(filtered.modified)
      }),
      ...Object.fromEntries(yield* Effect.forEach(options.params, parseParam))
    }
  })
  if (params instanceof CgiParams.CgiParamsError) return yield* usage(`${params.message}: ${target}`)
  return {
    method,
    request: {
      role: { responder: Role.Responder, authorizer: Role.Authorizer, filter: Role.Filter }[options.role],
      params,
      stdin: body?.content,
      data: filtered?.content
    }
  }
})

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

interface Body {
  readonly content: FastCgiClientBody<CommandFailure>
  readonly size: number
  readonly type: string | undefined
}

const parseUrl = (
  text: string
): Effect.Effect<
  { readonly host: string; readonly scheme: "http" | "https"; readonly target: string },
  CommandFailure
> => {
  // What no URL holds, a space for one, is encoded, as a browser does it.
  const encoded = text.replace(/[^\x21-\x7e]+/g, encodeURIComponent)
  const whole = /^(https?):\/\/([^/?#]+)([^#]*)/i.exec(encoded)
  if (whole === null) {
    return encoded.startsWith("/")
      ? Effect.succeed({ host: "localhost", scheme: "http", target: encoded })
      : usage(`"${text}" is no path of a URL. Did you mean /${text}?`)
  }
  const [, scheme, host, rest] = whole as unknown as [string, string, string, string]
  return Effect.succeed({
    host,
    scheme: scheme.toLowerCase() === "https" ? "https" : "http",
    target: rest.startsWith("/") ? rest : `/${rest}`
  })
}

// One character per byte, as headers are everywhere.
const latin1 = (text: string): string => Buffer.from(text).toString("latin1")

const parseHeader = (text: string): Effect.Effect<readonly [string, string], CommandFailure> => {
  const match = /^([^\s:]+):(.*)$/.exec(text)
  return match === null
    ? usage(`"${text}" is no header. Did you mean -H "name: value"?`)
    : Effect.succeed([match[1]!, latin1(match[2]!.trim())] as const)
}

const parseParam = (text: string): Effect.Effect<readonly [string, string], CommandFailure> => {
  const at = text.indexOf("=")
  return at < 1
    ? usage(`"${text}" is no param. Did you mean --param NAME=VALUE?`)
    : Effect.succeed([text.slice(0, at), text.slice(at + 1)] as const)
}

const fileBody = Effect.fnUntraced(function*(
  file: string
): Effect.fn.Return<Body & { readonly modified: number }, CommandFailure, FileSystem.FileSystem> {
  const files = yield* FileSystem.FileSystem
  const info = yield* Effect.mapError(files.stat(file), unreadable(file))
  if (info.type !== "File") return yield* usage(`Cannot read ${file}: it is no file.`)
  const modified = info.mtime._tag === "Some" ? Math.floor(info.mtime.value.getTime() / 1000) : 0
  return {
    content: Stream.mapError(files.stream(file), unreadable(file)),
    size: Number(info.size),
    type: undefined,
    modified
  }
})

const standardInput = Effect.callback<Uint8Array, CommandFailure>((resume) => {
  const chunks: Array<Uint8Array> = []
  process.stdin.on("data", (chunk) => chunks.push(chunk))
  process.stdin.on("end", () => resume(Effect.succeed(Buffer.concat(chunks))))
  process.stdin.on("error", ({ message }) => resume(usage(`Cannot read standard input: ${message}.`)))
})

const formType = "application/x-www-form-urlencoded"

// One file is sent as it is read. What has to be joined is in memory.
const dataBody = Effect.fnUntraced(function*(
  data: ReadonlyArray<string>
): Effect.fn.Return<Body, CommandFailure, FileSystem.FileSystem> {
  if (data.length === 1 && data[0]!.startsWith("@") && data[0] !== "@-") {
    return { ...yield* fileBody(data[0]!.slice(1)), type: formType }
  }
  const files = yield* FileSystem.FileSystem
  const parts = yield* Effect.forEach(data, (part) =>
    part === "@-"
      ? standardInput
      : part.startsWith("@")
      ? Effect.mapError(files.readFile(part.slice(1)), unreadable(part.slice(1)))
      : Effect.succeed(Buffer.from(part)))
  const content = Buffer.concat(parts.flatMap((part, i) => i === 0 ? [part] : [Buffer.from("&"), part]))
  return { content, size: content.length, type: formType }
})

// RFC 7578: what cannot stand in a quoted name is percent-encoded, as browsers do it.
const quoted = (text: string): string => text.replace(/["\r\n]/g, encodeURIComponent)

const multipart = Effect.fnUntraced(function*(
  fields: ReadonlyArray<string>
): Effect.fn.Return<Body, CommandFailure, FileSystem.FileSystem> {
  const boundary = `----effect-fastcgi-${crypto.randomUUID()}`
  const parts: Array<Body> = []
  const add = (text: string) => {
    const content = Buffer.from(text)
    parts.push({ content, size: content.length, type: undefined })
  }
  for (const field of fields) {
    const at = field.indexOf("=")
    if (at < 1) return yield* usage(`"${field}" is no field. Did you mean -F name=value, or -F name=@file?`)
    const name = quoted(field.slice(0, at))
    const value = field.slice(at + 1)
    if (!value.startsWith("@")) {
      add(`--${boundary}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`)
      continue
    }
    const [file, type = "application/octet-stream"] = value.slice(1).split(";type=") as [string, string?]
    const body = yield* fileBody(file)
    add(
      `--${boundary}\r\nContent-Disposition: form-data; name="${name}"; filename="${quoted(Path.basename(file))}"\r\n` +
        `Content-Type: ${type}\r\n\r\n`
    )
    parts.push(body)
    add("\r\n")
  }
  add(`--${boundary}--\r\n`)
  return {
    content: Stream.fromIterable(parts).pipe(
      Stream.flatMap(({ content }) => content instanceof Uint8Array ? Stream.make(content) : content)
    ),
    size: parts.reduce((size, part) => size + part.size, 0),
    type: `multipart/form-data; boundary=${boundary}`
  }
})
