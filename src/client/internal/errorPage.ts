/**
 * What a person sees in the browser when the application did not answer: what happened, and what to look at. Any visitor
 * may be that person, so an error's message, which may name a socket or quote the application, is for the log only.
 */
import type { FastCgiClientError } from "../FastCgiClientError.ts"

export interface ErrorPage {
  readonly status: 502 | 503 | 504
  readonly html: string
}

export const errorPage = (error: FastCgiClientError): ErrorPage => {
  const { hint, status, title } = describe(error)
  const name = status === 502 ? "Bad Gateway" : status === 503 ? "Service Unavailable" : "Gateway Timeout"
  return {
    status,
    html: `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${status} ${name}</title>
<style>
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 42rem; margin: 4rem auto; padding: 0 1rem; color: #222 }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd } }
</style>
<h1>${title}</h1>
<p>${hint}</p>
<p><small>${status} ${name}, from the FastCGI gateway in front of the application</small></p>
</html>
`
  }
}

const describe = (
  error: FastCgiClientError
): { readonly status: 502 | 503 | 504; readonly title: string; readonly hint: string } => {
  switch (error.reason._tag) {
    case "ConnectFailed":
      return {
        status: 502,
        title: "The application cannot be reached",
        hint: "Is it running, and does it listen where the gateway looks for it? The gateway's log says where that is."
      }
    case "ConnectionLost":
      return {
        status: 502,
        title: "The application closed the connection before it answered",
        hint: "It may have crashed or been restarted: its own log knows more. If it is running again, reload this page."
      }
    case "Overloaded":
      return {
        status: 503,
        title: "The application is overloaded",
        hint: "It has as many requests as it takes. Try again in a moment."
      }
    case "Timeout":
      return {
        status: 504,
        title: "The application did not answer in time",
        hint: "It may be busy, or wait for something itself."
      }
    case "ProtocolError":
      return {
        status: 502,
        title: "This is not a FastCGI application",
        hint:
          "What answered there does not speak FastCGI. An HTTP server needs no gateway; another address may be meant."
      }
    case "UnknownRole":
    case "CantMultiplex":
      return { status: 502, title: "The application refused the request", hint: "It is no Responder for this gateway." }
    default:
      return {
        status: 502,
        title: "The application's answer is no response",
        hint: "The gateway's log says what is wrong with it, and the application's own may know why."
      }
  }
}
