/**
 * Sends HTTP requests over a UNIX socket, 16 at a time on kept connections, and checks that each answer is the first one again.
 *
 *     node http.ts SOCKET PATH REQUESTS
 */
import * as Http from "node:http"

const [socketPath = "", path = "", requests = ""] = process.argv.slice(2)
const agent = new Http.Agent({ keepAlive: true, maxSockets: 16 })

const get = (): Promise<string> =>
  new Promise((resolve, reject) => {
    Http.get({ socketPath, path, agent }, (response) => {
      let text = `${response.statusCode} `
      response.setEncoding("latin1")
      response.on("data", (part: string) => {
        text += part
      })
      response.on("end", () => resolve(text))
      response.on("error", reject)
    }).on("error", reject)
  })

const expected = await get()
if (!expected.startsWith("200 ")) throw new Error(expected.slice(0, 200))
let left = Number(requests)
const one = async (): Promise<void> => {
  while (left-- > 0) if (await get() !== expected) throw new Error("another answer than before")
}
await Promise.all(Array.from({ length: 16 }, one))
process.exit()
