/**
 * A Node HTTP server for uploads that take as long as they take, and for a quick end.
 *
 * Node's own `close` ends the connections that are idle at that moment. It waits for those that were opened in advance and
 * never used, as browsers do, and for those that become idle later: a browser that reconnects to a live stream may keep
 * one for ever. This one ends both.
 */
import { Server } from "node:http"
import type { Socket } from "node:net"

class QuickServer extends Server {
  private readonly unused = new Set<Socket>()

  constructor() {
    // Node would give a request 5 minutes, its body included.
    super({ requestTimeout: 0 })
    this.on("connection", (socket: Socket) => {
      this.unused.add(socket)
      socket.once("close", () => this.unused.delete(socket))
    })
    this.on("request", (request, response) => {
      this.unused.delete(request.socket)
      response.once("close", () => {
        if (!this.listening) setImmediate(() => this.closeIdleConnections())
      })
    })
  }

  override close(callback?: (error?: Error) => void): this {
    super.close(callback)
    for (const socket of this.unused) socket.destroy()
    return this
  }
}

export const createServer = (): Server => new QuickServer()
