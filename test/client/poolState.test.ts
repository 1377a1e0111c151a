/**
 * What a pool decides, without connections and without time of its own.
 */
import { assert, describe, it } from "@effect/vitest"
import {
  type Entry,
  Opening,
  type Place,
  type PooledConnection,
  type PoolLimits,
  type UpstreamLimits,
  type Waiter,
  type Want
} from "../../src/client/internal/poolModel.ts"
import { PoolState } from "../../src/client/internal/poolState.ts"

class FakeConnection implements PooledConnection {
  open = true
  active = 0
  readonly name: number
  private readonly closing: (connection: FakeConnection) => void

  constructor(name: number, closing: (connection: FakeConnection) => void) {
    this.name = name
    this.closing = closing
  }

  get load(): number {
    return this.active
  }

  closeUnsafe(): void {
    if (!this.open) return
    this.open = false
    this.active = 0
    this.closing(this)
  }
}

const any: Want<FakeConnection> = { repeatable: true, fresh: false, tried: [] }
const once: Want<FakeConnection> = { ...any, repeatable: false }
const fresh: Want<FakeConnection> = { ...any, fresh: true }

/** A pool whose connections do what they are told, and a record of what has happened. */
class Play {
  readonly state: PoolState<FakeConnection>
  readonly openings: Array<Opening<FakeConnection>> = []
  readonly entries = new Map<FakeConnection, Entry<FakeConnection>>()
  readonly requests = new Map<FakeConnection, Array<{ received: number }>>()
  readonly granted: Array<Waiter<FakeConnection>> = []
  opened = 0
  cancelled = 0
  now = 0

  constructor(limits: Partial<PoolLimits> = {}, upstreams: ReadonlyArray<Partial<UpstreamLimits>> = [{}]) {
    this.state = new PoolState<FakeConnection>(
      {
        keepConnection: true,
        maxRequests: 1,
        minIdle: 0,
        maxIdle: 16,
        idleTimeout: 60_000,
        maxWaiting: 100,
        ...limits
      },
      upstreams.map((upstream) => ({
        limits: { weight: 1, maxConnections: Infinity, maxFails: 1, failTimeout: 10_000, ...upstream },
        counts: { connections: 0, idle: 0 }
      })),
      {
        open: (opening) => this.openings.push(opening),
        cancel: (opening) => {
          this.cancelled++
          assert.isTrue(opening.over)
          this.openings.splice(this.openings.indexOf(opening), 1)
        },
        closed: (entry) => this.entries.delete(entry.connection),
        grant: (waiter) => this.granted.push(waiter)
      }
    )
  }

  /** Opens what is being opened, or fails. */
  open(n = this.openings.length): Array<Entry<FakeConnection>> {
    return this.openings.splice(0, n).map((opening) => {
      const connection = new FakeConnection(this.opened++, (connection) => this.settle(connection))
      const entry = this.state.opened(opening, connection)
      this.entries.set(connection, entry)
      this.state.settle(entry, this.now)
      return entry
    })
  }

  fail(): void {
    const opening = this.openings.shift()
    assert.isDefined(opening)
    this.state.openFailed(opening!, this.now)
  }

  settle(connection: FakeConnection): void {
    const entry = this.entries.get(connection)
    if (entry !== undefined) this.state.settle(entry, this.now)
  }

  begin(place: Place<FakeConnection> | undefined): Entry<FakeConnection> {
    const entry = place instanceof Opening ? place.entry! : place!
    assert.isTrue(entry.connection.open)
    entry.connection.active++
    const request = { received: 0 }
    this.state.begun(entry, request, this.now)
    this.requests.set(entry.connection, [...this.requests.get(entry.connection) ?? [], request])
    return entry
  }

  /** Ends a request with an answer. */
  end({ connection }: Entry<FakeConnection>): void {
    connection.active--
    this.requests.get(connection)!.shift()!.received = 1
    this.settle(connection)
  }

  /** A request that runs. */
  run(want = any): Entry<FakeConnection> {
    const place = this.state.take(want, this.now)
    if (place instanceof Opening) this.open()
    return this.begin(place)
  }

  counts() {
    return this.state.upstreams.map(({ counts }) => ({ ...counts }))
  }
}

const nameOf = ({ connection }: Entry<FakeConnection>) => connection.name

describe("PoolState", () => {
  it("gives the connection that was used last", () => {
    const play = new Play()
    const [a, b] = [play.run(), play.run()]
    play.end(b)
    play.end(a)
    assert.strictEqual(play.run(), a)
    assert.strictEqual(play.run(), b)
    assert.strictEqual(nameOf(play.run()), 2)
  })

  it("serves who waits in order, one for each place that is freed", () => {
    const play = new Play({}, [{ maxConnections: 2 }])
    const [a, b] = [play.run(), play.run()]
    assert.isUndefined(play.state.take(any, 0))
    const waiters = [1, 2, 3].map(() => play.state.wait(any, 0, false))
    // Nobody overtakes.
    assert.isUndefined(play.state.take(any, 0))
    play.end(b)
    assert.deepStrictEqual(play.granted, [waiters[0]])
    assert.strictEqual(waiters[0].place, b)
    play.end(a)
    assert.deepStrictEqual(play.granted, [waiters[0], waiters[1]])
    play.end(play.begin(b))
    assert.deepStrictEqual(play.granted, waiters)
    assert.strictEqual(play.state.waiting.size, 0)
  })

  it("lets one that is sent again wait in front", () => {
    const play = new Play({}, [{ maxConnections: 1 }])
    const a = play.run()
    const [, second] = [play.state.wait(any, 0, false), play.state.wait(any, 0, true)]
    play.end(a)
    assert.deepStrictEqual(play.granted, [second])
  })

  it("is full at maxWaiting", () => {
    const play = new Play({ maxWaiting: 2 }, [{ maxConnections: 1 }])
    play.run()
    play.state.wait(any, 0, false)
    assert.isFalse(play.state.full)
    const waiter = play.state.wait(any, 0, false)
    assert.isTrue(play.state.full)
    play.state.leave(waiter, 0)
    assert.isFalse(play.state.full)
  })

  it("gives on what is given back: a connection, and one that is being opened", () => {
    const play = new Play({}, [{ maxConnections: 1 }])
    const opening = play.state.take(any, 0)!
    const [first, second] = [play.state.wait(any, 0, false), play.state.wait(any, 0, false)]
    play.state.giveBack(opening, 0)
    assert.deepStrictEqual(play.granted, [first])
    assert.strictEqual(first.place, opening)
    assert.strictEqual(play.cancelled, 0)
    const [entry] = play.open()
    // It was granted, and the connection is there: interrupted just then.
    play.state.leave(first, 0)
    assert.deepStrictEqual(play.granted, [first, second])
    assert.strictEqual(second.place, entry)
    play.state.leave(second, 0)
    // Opened, and nobody wants it: an application that is not to keep connections gets a request on it or none.
    assert.deepStrictEqual(play.counts(), [{ connections: 1, idle: 1 }])
  })

  it("gives up opening what nobody waits for", () => {
    const play = new Play()
    const opening = play.state.take(any, 0)!
    play.state.giveBack(opening, 0)
    assert.strictEqual(play.cancelled, 1)
    assert.strictEqual(play.state.upstreams[0].size, 0)
    // The connection comes all the same: the pool has forgotten it.
    play.state.giveBack(opening, 0)
    assert.strictEqual(play.state.upstreams[0].size, 0)
  })

  it("keeps no connection that nobody has used where none are kept", () => {
    const play = new Play({ keepConnection: false }, [{ maxConnections: 1 }])
    const place = play.state.take(any, 0) as Opening<FakeConnection>
    const waiter = play.state.wait(any, 0, false)
    play.open()
    play.state.leave(waiter, 0)
    assert.strictEqual(play.state.upstreams[0].idle.size, 0)
    play.state.giveBack(place, 0)
    assert.deepStrictEqual(play.counts(), [{ connections: 0, idle: 0 }])
  })

  it("opens one in the place of one that may be about to close, for what may not run twice", () => {
    const play = new Play({}, [{ maxConnections: 1 }])
    const a = play.run()
    play.now = 1000
    play.end(a)
    play.now = 1049
    const b = play.run(once)
    assert.notStrictEqual(a, b)
    assert.isFalse(a.connection.open)
    play.end(b)
    play.now = 1099
    assert.strictEqual(play.run(once), b)
    // Who waits for a connection of that kind gets it as soon as there is a place.
    const waiter = play.state.wait(once, play.now, false)
    play.end(b)
    assert.isTrue(waiter.place instanceof Opening)
    assert.isFalse(b.connection.open)
    assert.strictEqual(play.state.upstreams[0].size, 1)
  })

  it("sends what is sent again on a new connection", () => {
    const play = new Play({}, [{ maxConnections: 2 }])
    const a = play.run()
    play.end(a)
    const b = play.run(fresh)
    assert.strictEqual(nameOf(b), 1)
    assert.isTrue(a.connection.open)
    const waiting = play.run(fresh)
    assert.strictEqual(nameOf(waiting), 2)
    assert.isFalse(a.connection.open)
  })

  it("shares connections, and opens one for as many as it can carry", () => {
    const play = new Play({ maxRequests: 3 }, [{ maxConnections: 2 }])
    const places = [1, 2, 3, 4].map(() => play.state.take(any, 0)!)
    assert.strictEqual(play.openings.length, 2)
    play.open()
    const entries = places.map((place) => play.begin(place))
    assert.deepStrictEqual(entries.map(nameOf), [0, 0, 0, 1])
    assert.deepStrictEqual([play.run(), play.run()].map(nameOf), [1, 1])
    assert.isUndefined(play.state.take(any, 0))
    const waiter = play.state.wait(any, 0, false)
    play.end(entries[0])
    assert.strictEqual(waiter.place, entries[0])
    // What is sent again goes to one that lives, when there is room and no place for another.
    const again = play.state.wait(fresh, 0, true)
    assert.strictEqual(play.granted.length, 1)
    play.end(entries[3])
    assert.strictEqual(again.place, entries[3])
  })

  it("keeps maxIdle connections, for idleTimeout, but minIdle of them for ever, and opens those in advance", () => {
    const play = new Play({ minIdle: 1, maxIdle: 2, idleTimeout: 1000 }, [{ maxConnections: 5 }])
    play.state.fill(play.state.upstreams[0])
    assert.strictEqual(play.openings.length, 1)
    // A request takes part in what is being opened anyway, and another one is opened.
    const place = play.state.take(any, 0)
    assert.strictEqual(play.openings.length, 2)
    play.open()
    const a = play.begin(place)
    const rest = [play.run(), play.run()]
    play.open()
    assert.deepStrictEqual(play.counts(), [{ connections: 4, idle: 1 }])
    for (const entry of [a, ...rest]) play.end(entry)
    assert.deepStrictEqual(play.counts(), [{ connections: 2, idle: 2 }])
    play.now = 1000
    assert.isFalse(play.state.reap(play.now))
    assert.deepStrictEqual(play.counts(), [{ connections: 1, idle: 1 }])
    // An application that closes it gets another.
    play.entries.forEach(({ connection }) => connection.closeUnsafe())
    assert.strictEqual(play.openings.length, 1)
    // One that cannot be reached is not asked again and again.
    play.fail()
    assert.strictEqual(play.openings.length, 0)
    play.state.fill(play.state.upstreams[0])
    assert.strictEqual(play.openings.length, 1)
  })

  it("closes an idle connection for each request whose application has no worker for it", () => {
    const play = new Play({}, [{ maxConnections: 8 }])
    const served = [play.run(), play.run()]
    const unserved = [play.run(), play.run(), play.run()]
    play.now = 99
    play.end(served[0])
    assert.isTrue(served[0].connection.open)
    assert.isTrue(play.state.mayStarve)
    play.now = 100
    // At once where it becomes idle then, and by time where it had been.
    play.end(served[1])
    assert.isFalse(served[1].connection.open)
    play.state.relieve(play.now)
    assert.isFalse(served[0].connection.open)
    // Each of them is a reason once in 100 ms.
    const others = [play.run(), play.run()]
    for (const entry of others) play.end(entry)
    assert.deepStrictEqual(others.map(({ connection }) => connection.open), [false, true])
    play.now = 200
    play.state.relieve(play.now)
    assert.isFalse(others[1].connection.open)
    // Served at last.
    for (const entry of unserved) play.requests.get(entry.connection)![0].received = 1
    for (const entry of unserved) play.end(entry)
    assert.deepStrictEqual(play.counts(), [{ connections: 3, idle: 3 }])
    play.now = 1000
    play.state.relieve(play.now)
    assert.deepStrictEqual(play.counts(), [{ connections: 3, idle: 3 }])
  })

  it("sends who waits behind those whose application has no worker for them", () => {
    const play = new Play({}, [{ maxConnections: 2 }])
    const [served] = [play.run(), play.run()]
    const waiter = play.state.wait(any, 0, false)
    play.now = 100
    play.end(served)
    assert.isFalse(served.connection.open)
    assert.isTrue(waiter.place instanceof Opening)
  })

  it("gives a connection that gets free to who waits longest for one to be opened", () => {
    const play = new Play({}, [{ maxConnections: 4 }])
    const a = play.run()
    const [post, first, second] = [once, any, any].map((want) => play.state.take(want, 0) as Opening<FakeConnection>)
    const waiter = play.state.wait(any, 0, false)
    play.end(a)
    assert.strictEqual(first.entry, a)
    assert.strictEqual(play.cancelled, 1)
    // In its place one is opened for who waits.
    assert.isTrue(waiter.place instanceof Opening)
    assert.strictEqual(play.openings.length, 3)
    play.end(play.begin(first))
    assert.strictEqual(second.entry, a)
    play.end(play.begin(second))
    play.end(play.begin(waiter.place))
    assert.deepStrictEqual(play.counts(), [{ connections: 1, idle: 1 }])
    assert.isUndefined(post.entry)
    // What takes no other is helped as well.
    play.now = 100
    assert.isTrue(play.state.mayStarve)
    play.state.relieve(play.now)
    assert.isFalse(a.connection.open)
    // One that is interrupted just then gives back what it has got.
    const [b] = [play.run()]
    const place = play.state.take(any, play.now)!
    play.end(b)
    play.state.giveBack(place, play.now)
    assert.strictEqual(play.counts()[0].idle, 1)
  })

  describe("with several upstreams", () => {
    const turns = (play: Play, n: number) => Array.from({ length: n }, () => play.run().upstream.index).join("")

    it("gives each its turn, by weight", () => {
      assert.strictEqual(turns(new Play({}, [{ weight: 5 }, {}, {}]), 14), "00102000010200")
      assert.strictEqual(turns(new Play({}, [{}, {}]), 4), "0101")
    })

    it("leaves out what has no place, and waits for the first that has", () => {
      const play = new Play({}, [{ maxConnections: 1 }, { maxConnections: 2 }])
      const [first] = [play.run(), play.run(), play.run()]
      assert.deepStrictEqual(play.counts().map(({ connections }) => connections), [1, 2])
      const waiter = play.state.wait(any, 0, false)
      assert.strictEqual(play.granted.length, 0)
      play.end(first)
      assert.strictEqual(waiter.place, first)
    })

    it("leaves out one that has failed, for failTimeout, and then tries it with one request", () => {
      const play = new Play({}, [{}, {}])
      play.state.take(any, 0)
      play.fail()
      assert.strictEqual(turns(play, 3), "111")
      play.now = 10_001
      const next = [play.run(), play.run(), play.run()]
      assert.strictEqual(next.filter(({ upstream }) => upstream.index === 0).length, 1)
      play.state.upstreams[0].health.succeeded()
      assert.include(turns(play, 2), "0")
    })

    it("leaves it out again when that has failed, too", () => {
      const play = new Play({}, [{}, {}])
      const { health } = play.state.upstreams[0]
      health.failed(0)
      play.now = 10_001
      assert.include(turns(play, 3), "0")
      health.failed(play.now)
      assert.strictEqual(turns(play, 3), "111")
      play.now = 20_001
      assert.strictEqual(turns(play, 3), "111")
      play.now = 20_003
      assert.include(turns(play, 3), "0")
    })

    it("gives what has become usable by the time alone to who has waited longest", () => {
      const play = new Play({}, [{ maxConnections: 1 }, { maxConnections: 1 }])
      play.state.upstreams[0].health.failed(0)
      play.run()
      const waiter = play.state.wait(any, 0, false)
      assert.strictEqual(play.granted.length, 0)
      play.now = 10_001
      assert.isUndefined(play.state.take(any, play.now))
      const late = play.state.wait(any, play.now, false)
      assert.strictEqual(waiter.place?.upstream.index, 0)
      assert.isUndefined(late.place)
    })

    it("counts maxFails within failTimeout", () => {
      const play = new Play({}, [{ maxFails: 2 }, {}])
      const { health } = play.state.upstreams[0]
      health.failed(0)
      health.failed(10_001)
      assert.isTrue(health.usable(10_001))
      health.failed(10_002)
      assert.isFalse(health.usable(10_002))
    })

    it("takes no success for life that was under way at the failure", () => {
      const play = new Play({}, [{}, {}])
      const { health } = play.state.upstreams[0]
      health.failed(5)
      health.succeeded()
      assert.isFalse(health.usable(6))
    })

    it("tries all where all have failed", () => {
      const play = new Play({}, [{}, {}])
      for (const { health } of play.state.upstreams) health.failed(0)
      assert.strictEqual(turns(play, 4), "0101")
    })

    it("goes elsewhere with what has failed at one", () => {
      const play = new Play({}, [{ maxFails: Infinity }, {}])
      const [first, second] = play.state.upstreams
      for (let i = 0; i < 4; i++) {
        assert.strictEqual(play.run({ ...any, tried: [first] }).upstream, second)
      }
      assert.strictEqual(play.run({ ...any, tried: [second, first] }).upstream, first)
    })

    it("leaves out one that does not answer pings", () => {
      const play = new Play({}, [{}, {}])
      const { health } = play.state.upstreams[0]
      health.ponged(false)
      play.now = 1_000_000
      assert.strictEqual(turns(play, 3), "111")
      health.ponged(true)
      assert.include(turns(play, 2), "0")
    })

    it("holds a place for what is no request", () => {
      const play = new Play({}, [{ maxConnections: 1 }])
      const [upstream] = play.state.upstreams
      assert.isTrue(play.state.hold(upstream))
      assert.isFalse(play.state.hold(upstream))
      const waiter = play.state.wait(any, 0, false)
      assert.strictEqual(play.granted.length, 0)
      play.state.free(upstream, 0)
      assert.isTrue(waiter.place instanceof Opening)
    })
  })

  // Numbers that look random and are the same in each run.
  const random = (seed: number) => () => {
    seed = (seed * 1103515245 + 12345) & 0x7fffffff
    return seed / 0x7fffffff
  }

  it("keeps its limits and forgets nobody, whatever happens", () => {
    for (let seed = 1; seed <= 200; seed++) {
      const next = random(seed)
      const below = (n: number) => Math.floor(next() * n)
      const maxRequests = [1, 1, 3][below(3)]
      const limits = { maxRequests, keepConnection: below(4) > 0, minIdle: below(3), maxIdle: 1 + below(3) }
      const play = new Play(limits, Array.from({ length: 1 + below(3) }, () => ({ maxConnections: 1 + below(3) })))
      const running: Array<Entry<FakeConnection>> = []
      const pending: Array<Opening<FakeConnection>> = []
      const waiting = new Set<Waiter<FakeConnection>>()
      let asked = 0
      let served = 0
      const got = (place: Place<FakeConnection>) => {
        if (place instanceof Opening) pending.push(place)
        else start(place)
      }
      const start = (entry: Entry<FakeConnection>) => {
        served++
        if (!entry.connection.open) return play.state.giveBack(entry, play.now)
        running.push(play.begin(entry))
      }
      const takeGrants = () => {
        for (let waiter = play.granted.shift(); waiter !== undefined; waiter = play.granted.shift()) {
          waiting.delete(waiter)
          got(waiter.place!)
        }
      }
      const step = () => {
        play.now += below(80)
        switch (below(9)) {
          case 0:
          case 1:
          case 2: {
            asked++
            const want = [any, any, once, fresh][below(4)]
            const place = play.state.take(want, play.now)
            if (place === undefined) waiting.add(play.state.wait(want, play.now, below(5) === 0))
            else got(place)
            break
          }
          case 3:
          case 4:
            play.open(1)
            break
          case 5:
            if (play.openings.length > 0 && below(3) === 0) play.fail()
            break
          case 6:
            if (running.length > 0) {
              const entry = running.splice(below(running.length), 1)[0]
              if (entry.connection.open) play.end(entry)
            }
            break
          case 7: {
            const entry = Array.from(play.entries.values())[below(play.entries.size)]
            if (below(4) === 0) entry?.connection.closeUnsafe()
            else if (below(3) === 0) play.state.reap(play.now)
            else play.state.relieve(play.now)
            break
          }
          case 8: {
            const waiter = Array.from(waiting)[below(waiting.size)]
            if (waiter !== undefined && below(2) === 0) {
              waiting.delete(waiter)
              play.state.leave(waiter, play.now)
              served++
            } else if (pending.length > 0 && below(2) === 0) {
              play.state.giveBack(pending.splice(below(pending.length), 1)[0], play.now)
              served++
            }
            break
          }
        }
        takeGrants()
        for (const opening of pending.splice(0)) {
          if (!opening.over) pending.push(opening)
          else if (opening.entry === undefined) served++
          else start(opening.entry)
        }
        takeGrants()
      }
      const check = () => {
        const wrong: Array<string> = []
        const holds = (what: string, condition: boolean) => condition || wrong.push(what)
        for (const upstream of play.state.upstreams) {
          const open = Array.from(play.entries.values()).filter((entry) => entry.upstream === upstream)
          holds("maxConnections", upstream.size <= upstream.limits.maxConnections)
          holds("size", upstream.size === open.length + upstream.openings)
          holds("connections", upstream.counts.connections === open.length)
          holds("idle", upstream.counts.idle === upstream.idle.size)
          holds("maxIdle", upstream.idle.size <= Math.max(limits.maxIdle, limits.minIdle))
          for (const { connection, list, removed, reserved } of open) {
            holds("open", connection.open && !removed)
            holds("maxRequests", connection.active + reserved <= maxRequests)
            const busy = connection.active + reserved > 0
            holds("idle where it is looked for", busy ? list !== upstream.idle : list === upstream.idle)
          }
        }
        holds("waiting", waiting.size === play.state.waiting.size)
        if (wrong.length > 0) assert.fail(`seed ${seed}: ${wrong.join(", ")}`)
      }
      for (let i = 0; i < 200; i++) {
        step()
        check()
      }
      // Everybody is served when all goes well.
      for (let i = 0; i < 2000 && (waiting.size > 0 || pending.length > 0); i++) {
        play.now += 10
        play.open()
        for (const entry of running.splice(0)) if (entry.connection.open) play.end(entry)
        takeGrants()
        for (const opening of pending.splice(0)) {
          if (!opening.over) pending.push(opening)
          else if (opening.entry === undefined) served++
          else start(opening.entry)
        }
        takeGrants()
        check()
      }
      assert.strictEqual(served, asked, `seed ${seed}`)
    }
  })
})
