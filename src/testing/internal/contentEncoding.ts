/**
 * A response as `fetch` hands it over: what it has been encoded with is taken off its body, and stays in its headers.
 */
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"

const formats = new Map([["gzip", "gzip"], ["x-gzip", "gzip"], ["deflate", "deflate"], ["br", "brotli"]])

const bodyless = new Set([204, 304])

/** The response with its body decoded, or as it is where it has none or an encoding is not known. */
export const decodeContent = (
  response: HttpClientResponse.HttpClientResponse
): HttpClientResponse.HttpClientResponse => {
  const encodings = (response.headers["content-encoding"] ?? "").split(",").map((name) => name.trim().toLowerCase())
  const steps = encodings.map((name) => formats.get(name)).reverse()
  if (steps.includes(undefined) || response.request.method === "HEAD" || bodyless.has(response.status)) return response
  const decoders = steps.map(decoderOf)
  if (decoders.includes(undefined)) return response
  const body = decoders.reduce<ReadableStream<Uint8Array>>(
    (body, decoder) => body.pipeThrough(decoder!),
    Stream.toReadableStream(response.stream)
  )
  const type = response.headers["content-type"]
  const decoded = HttpClientResponse.fromWeb(
    response.request,
    new Response(body, type === undefined ? {} : { headers: { "content-type": type } })
  )
  return Object.create(
    response,
    Object.fromEntries(bodies.map((name) => [name, { get: () => decoded[name] }]))
  )
}

const bodies = ["stream", "arrayBuffer", "text", "json", "urlParamsBody", "formData"] as const

// Not every platform has brotli.
const decoderOf = (format: string | undefined): ReadableWritablePair<Uint8Array, Uint8Array> | undefined => {
  const Decoder = DecompressionStream as unknown as new(format: string) => ReadableWritablePair<Uint8Array, Uint8Array>
  return Result.getOrUndefined(Result.try(() => new Decoder(format!)))
}
