/**
 * The waits between attempts to send to an application service, for all nodes: one node sends, and a request of the service to any node
 * ends the wait. A ping is such a request.
 *
 * The sender announces in the log that it waits, so that requests of other services write nothing.
 */
import { EventLog } from "@greenroom/store/EventLog"
import { ShortLivedStore } from "@greenroom/store/ShortLivedStore"
import { Context, Effect, Latch, Layer, Option } from "effect"

/** A service that makes requests and takes no transactions is tried this often at most, in ms. */
const shortestWait = 1_000

const prefix = "app service "
const waitsPrefix = `${prefix}waits `
const heardPrefix = `${prefix}heard `

const make = Effect.gen(function* () {
  const store = yield* ShortLivedStore
  const log = yield* EventLog
  /** The services for which a node waits. */
  const waiting = new Set<string>()
  /** The waits of this node. */
  const latches = new Map<string, Latch.Latch>()

  const read = ({ key }: { readonly key: string }) => {
    if (key.startsWith(waitsPrefix)) waiting.add(key.slice(waitsPrefix.length))
    if (!key.startsWith(heardPrefix)) return
    const id = key.slice(heardPrefix.length)
    waiting.delete(id)
    latches.get(id)?.openUnsafe()
  }
  yield* log.follow((slice) =>
    Effect.sync(() => {
      for (const value of store.valuesOf(slice)) read(value)
    })
  )
  for (const value of yield* store.withPrefix(prefix)) read(value)

  /** The values are null: the rows are signals, and nodes of earlier versions ignore them. */
  const announce = (key: string) => store.put(new Map([[key, null]]))

  const wait = Effect.fnUntraced(function* (id: string, time: number) {
    const latch = Latch.makeUnsafe(false)
    latches.set(id, latch)
    if (!waiting.has(id)) yield* announce(`${waitsPrefix}${id}`)
    yield* Effect.sleep(Math.min(shortestWait, time))
    return Option.isSome(yield* Effect.timeoutOption(latch.await, Math.max(0, time - shortestWait)))
  })

  const heardFrom = (id: string) =>
    Effect.suspend(() => (waiting.delete(id) ? announce(`${heardPrefix}${id}`) : Effect.void))

  return AppServiceBackOff.of({ wait, heardFrom })
})

/** The waits between attempts to send to an application service. */
export class AppServiceBackOff extends Context.Service<
  AppServiceBackOff,
  {
    /** Waits for so many ms, or until the service makes a request. Returns whether it made one. For the sender of the service. */
    readonly wait: (id: string, time: number) => Effect.Effect<boolean>
    /** The service made a request. */
    readonly heardFrom: (id: string) => Effect.Effect<void>
  }
>()("greenroom/actors/AppServiceBackOff") {
  static readonly layer = Layer.effect(AppServiceBackOff, make)
}
