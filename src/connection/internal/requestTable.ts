/**
 * Which requests are active on a connection, by id.
 */
// Ids are kept in pages of an array each. In a Map, the same id set and deleted again and again leaves something in its
// bucket each time, and looking it up takes the longer, the more others there are: measured, 6 µs beside 1,000. The arrays
// grow: to fill one in advance takes 250 ns a connection.
const pageSize = 64

// Web servers use the lowest ids, one after the other: their pages stay.
const lowPages = 4

interface Page<Request> {
  readonly requests: Array<Request | undefined>
  size: number
}

/** The requests of a connection by id. */
export class RequestTable<Request extends { readonly requestId: number }> {
  // The one that was added when there was no other: nearly always the only one.
  private first: Request | undefined
  private pages: Array<Page<Request> | undefined> | undefined
  size = 0

  get(requestId: number): Request | undefined {
    if (this.first !== undefined && this.first.requestId === requestId) return this.first
    const at = requestId >> pageBits
    if (this.pages === undefined || at >= this.pages.length) return undefined
    const page = this.pages[at]
    return page === undefined ? undefined : page.requests[requestId & pageMask]
  }

  add(request: Request): void {
    if (this.size++ === 0) {
      this.first = request
      return
    }
    const at = request.requestId >> pageBits
    const pages = this.pages ??= []
    while (pages.length <= at) pages.push(undefined)
    const page = pages[at] ??= { requests: [], size: 0 }
    page.requests[request.requestId & pageMask] = request
    page.size++
  }

  delete(request: Request): void {
    this.size--
    if (request === this.first) {
      this.first = undefined
      return
    }
    const at = request.requestId >> pageBits
    const page = this.pages![at]!
    page.requests[request.requestId & pageMask] = undefined
    page.size--
    if (page.size === 0 && at >= lowPages) this.pages![at] = undefined
  }

  /** What is there now, by id; it may change while one walks it. */
  values(): ReadonlyArray<Request> {
    if (this.size === 0) return none
    const values: Array<Request> = []
    let { first } = this
    for (const page of this.pages ?? none) {
      if (page === undefined || page.size === 0) continue
      for (const request of page.requests) {
        if (request === undefined) continue
        if (first !== undefined && first.requestId < request.requestId) {
          values.push(first)
          first = undefined
        }
        values.push(request)
      }
    }
    if (first !== undefined) values.push(first)
    return values
  }
}

const pageBits = Math.log2(pageSize)
const pageMask = pageSize - 1

const none: ReadonlyArray<never> = []
