import { assert, describe, it } from "@effect/vitest"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { DeviceConnections } from "../../src/presence/DeviceConnections.ts"

const alice = "@alice:green.test" as UserId
const grace = 30_000

describe("DeviceConnections", () => {
  it("a device is connected until the grace period after its last poll is over", () => {
    const devices = new DeviceConnections(grace)
    devices.connect(alice, "phone", 1_000)
    assert.deepStrictEqual(devices.due(1_000), [alice])
    devices.disconnect(alice, "phone", 2_000)
    assert.deepStrictEqual(devices.due(31_999), [])
    assert.isTrue(devices.report(alice, 31_999)[0]?.connected)
    assert.deepStrictEqual(devices.due(32_000), [alice])
    assert.deepStrictEqual(devices.report(alice, 32_000), [
      { connected: false, device: "phone", said_at: 1_000, last_active_at: 1_000, changed_at: 2_000 }
    ])
  })

  it("the grace period ends at its time although the clock was put back", () => {
    const hour = 3_600_000
    const devices = new DeviceConnections(grace)
    devices.connect(alice, "phone", hour)
    assert.deepStrictEqual(devices.due(hour), [alice])
    devices.disconnect(alice, "phone", hour)
    assert.deepStrictEqual(devices.due(0), [])
    assert.isTrue(devices.report(alice, grace - 1)[0]?.connected)
    assert.deepStrictEqual(devices.due(grace), [alice])
    assert.deepStrictEqual(devices.report(alice, grace), [
      { connected: false, device: "phone", said_at: 0, last_active_at: 0, changed_at: 0 }
    ])
  })

  it("activity connects a device without polls for the grace period", () => {
    const devices = new DeviceConnections(grace)
    assert.isTrue(devices.active(alice, "phone", 1_000))
    assert.isFalse(devices.active(alice, "phone", 5_000))
    assert.isTrue(devices.report(alice, 34_999)[0]?.connected)
    assert.isFalse(devices.report(alice, 35_000)[0]?.connected)
  })

  it("activity of a hidden device does not connect it, and is reported once in a grace period", () => {
    const devices = new DeviceConnections(grace)
    const answer = { until: undefined, idle: false }
    assert.isFalse(devices.withdraw(alice, "phone", 500))
    assert.isTrue(devices.active(alice, "phone", 1_000))
    assert.deepStrictEqual(devices.due(1_000), [alice])
    assert.deepStrictEqual(devices.report(alice, 1_000), [
      { connected: false, device: "phone", said_at: 1_000, last_active_at: 1_000, changed_at: 0 }
    ])
    devices.reported(alice, answer, 1_000)
    assert.isFalse(devices.active(alice, "phone", 5_000))
    assert.deepStrictEqual(devices.due(30_999), [])
    assert.deepStrictEqual(devices.due(31_000), [alice])
    assert.strictEqual(devices.report(alice, 31_000)[0]?.last_active_at, 5_000)
    devices.reported(alice, answer, 31_000)
    assert.deepStrictEqual(devices.report(alice, 31_000), [])
  })

  it("activity in the millisecond of a report, and after it, is reported to an actor that answers that the user is idle", () => {
    const devices = new DeviceConnections(grace)
    devices.connect(alice, "phone", 1_000)
    assert.deepStrictEqual(devices.due(1_000), [alice])
    devices.report(alice, 1_000)
    assert.isFalse(devices.active(alice, "phone", 1_000))
    devices.reported(alice, { until: undefined, idle: true }, 1_000)
    assert.deepStrictEqual(devices.due(1_000), [alice])
    devices.report(alice, 1_000)
    devices.reported(alice, { until: undefined, idle: true }, 1_000)
    assert.deepStrictEqual(devices.due(1_000), [])
  })

  it("a poll of a user who is present is reported once to an actor that takes the user for absent", () => {
    const devices = new DeviceConnections(grace)
    const [absence, later] = [{ state: "unavailable" }, { state: "unavailable" }]
    assert.isTrue(devices.connect(alice, "phone", 1_000))
    assert.isFalse(devices.connect(alice, "phone", 2_000))
    assert.isTrue(devices.connect(alice, "phone", 3_000, false, absence))
    assert.deepStrictEqual(devices.due(3_000), [alice])
    assert.strictEqual(devices.report(alice, 3_000)[0]?.said_at, 3_000)
    assert.isFalse(devices.connect(alice, "phone", 4_000, false, absence))
    assert.isTrue(devices.connect(alice, "phone", 5_000, false, later))
    assert.isTrue(devices.connect(alice, "phone", 6_000, true, later))
    assert.isFalse(devices.connect(alice, "phone", 7_000, true, { state: "unavailable" }))
  })

  it("a device whose client withdraws is disconnected at once, unless it still polls", () => {
    const devices = new DeviceConnections(grace)
    devices.connect(alice, "phone", 1_000)
    assert.isFalse(devices.withdraw(alice, "phone", 1_500))
    devices.disconnect(alice, "phone", 2_000)
    assert.isTrue(devices.withdraw(alice, "phone", 3_000))
    assert.deepStrictEqual(devices.due(3_000), [alice])
    assert.isFalse(devices.report(alice, 3_000)[0]?.connected)
  })
})
