/**
 * Which requests are active on a connection, by id.
 */
import type { ConnectionRequest } from "./connectionRequest.ts"

// Ids that are kept in an array; higher ones, which no web server reaches soon, in a Map. A Map alone, filled and emptied
// with every request, is rebuilt all the time: measured, 5 % of a small request.
const lowIds = 256

/** The requests of a connection by id. */
export class RequestTable {
  private readonly low: Array<ConnectionRequest | undefined> = []
  private high: Map<number, ConnectionRequest> | undefined
  size = 0

  get(requestId: number): ConnectionRequest | undefined {
    return requestId < this.low.length ? this.low[requestId] : this.high?.get(requestId)
  }

  add(request: ConnectionRequest): void {
    const requestId = request.requestId
    this.size++
    if (requestId < lowIds) {
      while (this.low.length <= requestId) this.low.push(undefined)
      this.low[requestId] = request
    } else {
      this.high ??= new Map()
      this.high.set(requestId, request)
    }
  }

  delete(request: ConnectionRequest): void {
    this.size--
    if (request.requestId < lowIds) this.low[request.requestId] = undefined
    else this.high!.delete(request.requestId)
  }

  /** What is there now; it may change while one walks it. */
  values(): ReadonlyArray<ConnectionRequest> {
    if (this.size === 0) return noRequests
    const values: Array<ConnectionRequest> = []
    for (const request of this.low) if (request !== undefined) values.push(request)
    if (this.high !== undefined) { for (const request of this.high.values()) values.push(request) }
    return values
  }
}

const noRequests: ReadonlyArray<ConnectionRequest> = []
