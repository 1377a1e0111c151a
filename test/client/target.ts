/**
 * A request whose target is sent as it is: fetch and URL resolve "..".
 */
import * as Effect from "effect/Effect"
import { get } from "node:http"

export const target = (url: string, path: string) =>
  Effect.callback<{ readonly status: number; readonly body: string }, Error>((resume) => {
    const { hostname, port } = new URL(url)
    const request = get({ hostname, port, path, agent: false }, (response) => {
      let body = ""
      response.setEncoding("utf8")
      response.on("data", (data: string) => body += data)
      response.on("error", (error) => resume(Effect.fail(error)))
      response.on("end", () => resume(Effect.succeed({ status: response.statusCode!, body })))
    })
    request.on("error", (error) => resume(Effect.fail(error)))
    return Effect.sync(() => request.destroy())
  })
