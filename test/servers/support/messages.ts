/**
 * What the application under test and the test say to each other, beside HTTP: lines of JSON over a UNIX socket that the test
 * listens on. So a test waits for what happens in the application, and decides when it goes on, whatever web server is between
 * them.
 */

/** From the application. `id` is the one that the test gave the request in its query. */
export type Event =
  | { readonly _tag: "Started"; readonly pid: number; readonly address: string }
  /** A handler has begun. */
  | { readonly _tag: "Begun"; readonly id: string; readonly on?: RequestPlace | undefined }
  /** A handler was interrupted; `byClient` when its client has gone away, and not for another reason. */
  | { readonly _tag: "Interrupted"; readonly id: string; readonly byClient: boolean }
  /** A handler has ended in any other way. */
  | { readonly _tag: "Ended"; readonly id: string }
  | { readonly _tag: "Measured"; readonly id: string; readonly measures: Measures }

/** Where a request came in. */
export type RequestPlace = readonly [connectionId: number, requestId: number]

/** To the application. */
export type Command =
  /** The request's stream sends the text. */
  | { readonly _tag: "Emit"; readonly id: string; readonly text: string }
  /** The request's stream ends, or its handler answers. */
  | { readonly _tag: "Finish"; readonly id: string }
  /** The request's stream fails. */
  | { readonly _tag: "Fail"; readonly id: string }
  | { readonly _tag: "Measure"; readonly id: string }

/** What an application that is left alone has in use. */
export interface Measures {
  /** Requests that are being handled, from the start of the handler to the end of the response. */
  readonly handlers: number
  /** Requests that have been handled so far. */
  readonly handled: number
  /** Bytes of JavaScript objects, after a collection. */
  readonly heap: number
  /** Open file descriptors. */
  readonly descriptors: number
}

/** What `/...` answers: the request as the application sees it. */
export interface Received {
  readonly method: string
  readonly url: string
  readonly originalUrl: string
  readonly headers: Readonly<Record<string, string>>
  readonly cookies: Readonly<Record<string, string>>
  readonly remoteAddress: string | undefined
  readonly body: string
  readonly keepConnection: boolean
  readonly on: RequestPlace | undefined
  readonly params: ReadonlyArray<readonly [name: string, value: string]>
}

/** What `/digest` answers. */
export interface Digest {
  readonly size: number
  readonly sha256: string
  /** The Content-Length that the application was told. */
  readonly length: string | undefined
}

/** The lines of a text stream, as they are completed. */
export const splitLines = (onLine: (line: string) => void): (text: string) => void => {
  let rest = ""
  return (text) => {
    rest += text
    let end = rest.indexOf("\n")
    while (end !== -1) {
      onLine(rest.slice(0, end))
      rest = rest.slice(end + 1)
      end = rest.indexOf("\n")
    }
  }
}
