import { assert, describe, it } from "@effect/vitest"
import type { DeviceUpdate } from "@greenroom/protocol/federation/Edu"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { applyUpdates } from "../../src/federation/RemoteUserKeys.ts"

const mallory = "@mallory:evil.test" as UserId

/** An update of the device `A` to a name. */
const update = (streamId: number, previousIds: ReadonlyArray<number>, displayName: string): DeviceUpdate => ({
  deviceId: "A",
  streamId,
  previousIds,
  isDeleted: false,
  keys: { user_id: mallory, device_id: "A", algorithms: [], keys: {} },
  displayName
})

/** The name of the device after updates of a list that was fetched at the update 1, and whether one before them is missing. */
const after = (...updates: ReadonlyArray<DeviceUpdate>) => {
  const { isGap, keys, streams } = applyUpdates(
    mallory,
    updates.map((update) => ({ edu_type: "m.device_list_update", content: { user_id: mallory, update } }))
  )({ keys: { devices: "{}", masterKey: undefined, selfSigningKey: undefined }, streams: [1] })
  return { name: JSON.parse(keys!.devices).A?.unsigned.device_display_name, streams, isGap }
}

describe("Updates of devices", () => {
  it("are applied in their order, and an older one that comes late changes nothing", () => {
    assert.deepStrictEqual(after(update(2, [1], "one"), update(3, [2], "two")), {
      name: "two",
      streams: [1, 2, 3],
      isGap: false
    })
    assert.deepStrictEqual(after(update(3, [2], "two"), update(2, [1], "one")), {
      name: "two",
      streams: [1, 3, 2],
      isGap: true
    })
  })

  it("that are repeated show no gap", () => {
    const { isGap, streams } = after(update(2, [1], "one"), update(2, [7], "one"))
    assert.deepStrictEqual([isGap, streams], [false, [1, 2]])
  })

  it("that name no update before them, or an unknown one, show a gap", () => {
    assert.isTrue(after(update(2, [], "one")).isGap)
    assert.isTrue(after(update(2, [7], "one")).isGap)
    assert.isTrue(after(update(3, [1, 2], "one")).isGap)
  })
})
