/**
 * Connections that are opened and held, to weigh what each costs the server.
 */
import { FastCgiEncoder, FastCgiParams, FastCgiRecord } from "effect-fastcgi"
import * as Net from "node:net"
import { hello } from "../servers/content.ts"
import { nginxParams } from "./nginxParams.ts"

export type Protocol = "fastcgi" | "http"

const path = (name: string) => `/bench/${name}`

/** A request as a web server sends it on a connection that is kept. */
export const encode = (protocol: Protocol, name: "hello" | "wait"): Uint8Array => {
  if (protocol === "http") {
    const headers = nginxParams.filter(([param, value]) => param.startsWith("HTTP_") && value !== "")
      .map(([param, value]) => `${param.slice(5).replaceAll("_", "-")}: ${value}\r\n`)
    return Buffer.from(`GET ${path(name)}?name=world&page=2 HTTP/1.1\r\n${headers.join("")}\r\n`)
  }
  const params = nginxParams.map(([param, value]) => [param, value.replaceAll(path("hello"), path(name))] as const)
  return Buffer.concat([
    FastCgiRecord.beginRequest(1, FastCgiRecord.Role.Responder, { keepConnection: true }),
    FastCgiRecord.params(1, FastCgiParams.encodePairs(params)),
    FastCgiRecord.params(1),
    FastCgiRecord.stdin(1)
  ].map((record) => FastCgiEncoder.encode(record)))
}

/** Whether the bytes end with the whole answer to hello. */
const isAnswered = (protocol: Protocol, bytes: Buffer): boolean =>
  bytes.includes(hello) && (protocol === "http" || bytes[bytes.length - 15] === FastCgiRecord.RecordType.EndRequest)

const retry = () => new Promise((resolve) => setTimeout(resolve, 1))

const connect = (socket: string): Promise<Net.Socket> =>
  new Promise((resolve, reject) => {
    const connection = Net.connect({ path: socket })
    connection.once("connect", () => resolve(connection))
    connection.once("error", (error: NodeJS.ErrnoException) => {
      // The backlog of a UNIX socket is full: Linux says it at once.
      if (error.code === "EAGAIN") resolve(retry().then(() => connect(socket)))
      else reject(error)
    })
  })

const ask = (connection: Net.Socket, protocol: Protocol, request: Uint8Array): Promise<void> =>
  new Promise((resolve, reject) => {
    let received = Buffer.alloc(0)
    const onData = (bytes: Buffer) => {
      received = Buffer.concat([received, bytes])
      if (!isAnswered(protocol, received)) return
      connection.off("data", onData)
      resolve()
    }
    connection.on("data", onData)
    connection.once("close", () => reject(new Error("a connection was closed without an answer")))
    connection.write(request)
  })

/** Opens connections, 100 at a time, and has one request answered on each. */
export const open = async (
  socket: string,
  protocol: Protocol,
  count: number
): Promise<ReadonlyArray<Net.Socket>> => {
  const request = encode(protocol, "hello")
  const connections: Array<Net.Socket> = []
  while (connections.length < count) {
    connections.push(
      ...await Promise.all(Array.from({ length: Math.min(100, count - connections.length) }, async () => {
        const connection = await connect(socket)
        await ask(connection, protocol, request)
        return connection
      }))
    )
  }
  return connections
}

/** Begins a request on each connection that is never answered, and waits until the server has taken the last. */
export const begin = async (
  socket: string,
  protocol: Protocol,
  connections: ReadonlyArray<Net.Socket>
): Promise<void> => {
  const request = encode(protocol, "wait")
  for (const connection of connections) connection.write(request)
  // What was sent before is read before.
  for (let i = 0; i < 3; i++) await close(await open(socket, protocol, 1))
}

/** Ends when all have been closed on this side. */
export const close = async (connections: ReadonlyArray<Net.Socket>): Promise<void> => {
  await Promise.all(connections.map((connection) =>
    new Promise<void>((resolve) => {
      connection.removeAllListeners("close")
      connection.once("close", () => resolve())
      connection.destroy()
    })
  ))
}
