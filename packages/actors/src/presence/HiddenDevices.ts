/**
 * Devices that poll with `set_presence=offline`, for all nodes: the node of the poll announces them in the log. Otherwise a request of
 * such a device to another node would show its user online.
 *
 * Values are last-value rows (`ShortLivedStore`), under keys of their own. They are removed some time after they ended.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { EventLog } from "@greenroom/store/EventLog"
import { ShortLivedStore } from "@greenroom/store/ShortLivedStore"
import { Clock, Effect, Latch } from "effect"
import { Nodes } from "../runtime/Nodes.ts"
import { keepRunningOnce } from "../runtime/Singletons.ts"
import { hiddenFor } from "./DeviceConnections.ts"

/** `until`: ms since 1970; in the past for a device that shows its user again. */
export interface HiddenDevice {
  readonly userId: UserId
  readonly deviceId: string
  readonly until: number
}

/** Has no `userId`: nodes of versions that do not know it take it for an update of nobody. */
interface Value {
  readonly _tag: "hidden"
  readonly user: UserId
  readonly device: string
  readonly until: number
  /** When it was announced, in ms since 1970. */
  readonly at: number
  readonly node: string
}

const prefix = "hidden "

/** The time for which a value is kept after it was announced, in ms: while it may apply, and until every node has read it. */
const keptFor = hiddenFor + 60_000

/** Whether a short-lived value is of this kind. */
export const isHiddenDevice = (key: string): boolean => key.startsWith(prefix)

/** Hands announcements of other nodes to `take`, until the scope closes; those that are in force come first. Returns the function that announces. */
export const makeHiddenDevices = Effect.fnUntraced(function* (take: (device: HiddenDevice) => void) {
  const store = yield* ShortLivedStore
  const log = yield* EventLog
  const { name: here } = yield* Nodes
  /** Opened when there is a value to remove some time. */
  const announced = Latch.makeUnsafe(false)

  const read = ({ key, value }: { readonly key: string; readonly value: unknown }) => {
    if (!isHiddenDevice(key) || value === null) return
    announced.openUnsafe()
    const { device, node, until, user } = value as Value
    if (node !== here) take({ userId: user, deviceId: device, until })
  }
  yield* log.follow((slice) =>
    Effect.sync(() => {
      for (const value of store.valuesOf(slice)) read(value)
    })
  )
  for (const value of yield* store.withPrefix(prefix)) read(value)

  const removeOld = Effect.gen(function* () {
    announced.closeUnsafe()
    const othersStay = yield* store.removeBefore(prefix, (yield* Clock.currentTimeMillis) - keptFor)
    yield* othersStay ? Effect.sleep(keptFor) : announced.await
  })
  yield* keepRunningOnce("Removing announcements of hidden devices", removeOld)

  return Effect.fnUntraced(function* ({ deviceId, until, userId }: HiddenDevice) {
    const at = yield* Clock.currentTimeMillis
    const value: Value = { _tag: "hidden", user: userId, device: deviceId, until, at, node: here }
    yield* store.put(new Map([[`${prefix}${JSON.stringify([userId, deviceId])}`, value]]))
  })
})
