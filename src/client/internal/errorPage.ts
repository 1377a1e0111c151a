/**
 * What a person sees in the browser when the application did not answer: what happened, and what to look at. Any visitor
 * may be that person, so an error's message, which may name a socket or quote the application, is for the log only.
 */
import * as Data from "effect/Data"
import type { FastCgiClientError } from "../FastCgiClientError.ts"

/** A request that the application does not get to see, or not as a whole. `message` is for the client. */
export class RequestRefused extends Data.TaggedError("RequestRefused")<{
  readonly status: 400 | 408 | 413 | 500 | 501
  readonly message: string
  /** What the log is to say as well, where it is not the client's doing. */
  readonly cause?: unknown
}> {}

export interface ErrorPage {
  readonly status: number
  readonly html: string
}

/** For those who run the application: what has gone wrong, and what to look at. */
export const errorPage = (error: FastCgiClientError | RequestRefused): ErrorPage => {
  const { hint, status, title } = toDescription(error)
  return page(
    status,
    title,
    `<p>${hint}</p>
<p><small>${status} ${names[status]}, from the FastCGI gateway in front of the application</small></p>
`
  )
}

/** For visitors, whom it tells the status and nothing else. */
export const visitorPage = (status: keyof typeof names): ErrorPage => page(status, names[status], "")

/** For visitors of an application that did not answer. */
export const visitorErrorPage = (error: FastCgiClientError | RequestRefused): ErrorPage =>
  visitorPage(toDescription(error).status)

// -----------------------------------------------------------------------------
// Internal
// -----------------------------------------------------------------------------

const page = (status: keyof typeof names, title: string, text: string): ErrorPage => ({
  status,
  html: `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${status} ${names[status]}</title>
<style>
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 42rem; margin: 4rem auto; padding: 0 1rem; color: #222 }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd } }
</style>
<h1>${title}</h1>
${text}</html>
`
})

const toDescription = (error: FastCgiClientError | RequestRefused): Description =>
  error._tag === "RequestRefused" ? refused(error) : descriptions[error.reason._tag] ?? noResponse

const names = {
  400: "Bad Request",
  404: "Not Found",
  405: "Method Not Allowed",
  408: "Request Timeout",
  413: "Content Too Large",
  500: "Internal Server Error",
  501: "Not Implemented",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout"
} as const

interface Description {
  readonly status: keyof typeof names
  readonly title: string
  readonly hint: string
}

const refused = ({ message, status }: RequestRefused): Description => ({
  status,
  title: "The gateway does not pass this request on",
  hint: escape(`${message.charAt(0).toUpperCase()}${message.slice(1)}.`)
})

const notForResponder: Description = {
  status: 502,
  title: "The application refused the request",
  hint: "The application has no Responder for this gateway."
}

const busy: Description = {
  status: 503,
  title: "The application is busy",
  hint: "Too many requests already wait. Try again in a moment."
}

const descriptions: { readonly [Tag in FastCgiClientError["reason"]["_tag"]]?: Description } = {
  ConnectFailed: {
    status: 502,
    title: "The application cannot be reached",
    hint: "Is it running, and does it listen at the address that the gateway uses? The gateway's log has that address."
  },
  ConnectionLost: {
    status: 502,
    title: "The application closed the connection before it answered",
    hint: "It may have crashed or been restarted. Read its log. If it is running again, reload this page."
  },
  Overloaded: {
    status: 503,
    title: "The application is overloaded",
    hint: "It has too many requests. Try again in a moment."
  },
  PoolFull: busy,
  PoolTimeout: busy,
  ApplicationError: {
    status: 502,
    title: "The application has failed",
    hint: "It says so itself, with the reason: see the gateway's log, and the application's own."
  },
  Timeout: {
    status: 504,
    title: "The application did not answer in time",
    hint: "It may be busy, or waiting for something."
  },
  ProtocolError: {
    status: 502,
    title: "This is not a FastCGI application",
    hint: "The program at that address does not speak FastCGI. An HTTP server needs no gateway. Check the address."
  },
  UnknownRole: notForResponder,
  CantMultiplex: notForResponder
}

const noResponse: Description = {
  status: 502,
  title: "The application's answer is no response",
  hint: "The gateway's log says what is wrong. The application's log may say why."
}

const escape = (text: string): string =>
  text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/"/g, "&quot;")
