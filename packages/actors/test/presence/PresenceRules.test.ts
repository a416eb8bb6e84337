import { assert, describe, it } from "@effect/vitest"
import { type DeviceReport, mergePresence, type PresenceFacts } from "../../src/presence/PresenceRules.ts"

const minute = 60_000
const idleAfter = 5 * minute

const facts = (some: Partial<PresenceFacts>): PresenceFacts => ({
  devices: [],
  choice: undefined,
  lastActiveAt: undefined,
  idleAfter,
  ...some
})
const connected = (last_active_at: number): DeviceReport => ({ connected: true, last_active_at, changed_at: 0 })
const disconnected = (changed_at: number): DeviceReport => ({ connected: false, last_active_at: 0, changed_at })

describe("PresenceRules", () => {
  it("online: the default state when the user is connected to an event stream", () => {
    assert.strictEqual(mergePresence(facts({ devices: [connected(0)] }), minute).state, "online")
    assert.strictEqual(mergePresence(facts({}), minute).state, "offline")
  })

  it("the last activity is the most recent one of any device", () => {
    const merged = mergePresence(facts({ devices: [connected(2 * minute), connected(4 * minute)] }), 8 * minute)
    assert.strictEqual(merged.state, "online")
    assert.strictEqual(merged.lastActiveAt, 4 * minute)
    assert.strictEqual(merged.until, 9 * minute)
  })

  it("a user whose devices are all idle is unavailable until one becomes active", () => {
    const merged = mergePresence(facts({ devices: [connected(0), connected(minute)] }), minute + idleAfter)
    assert.deepStrictEqual([merged.state, merged.idle, merged.until], ["unavailable", true, undefined])
    assert.strictEqual(
      mergePresence(facts({ devices: [connected(0), connected(7 * minute)] }), 7 * minute).state,
      "online"
    )
  })

  it("a user is away if all clients say so, and of a client that polls at several nodes the last poll counts", () => {
    const said = (said_at: number, away: boolean, device = "phone"): DeviceReport => ({
      ...connected(minute),
      ...(away ? { away } : {}),
      device,
      said_at
    })
    const stateWith = (...devices: ReadonlyArray<DeviceReport>) => mergePresence(facts({ devices }), 2 * minute).state
    assert.strictEqual(stateWith(said(1, false), said(2, true)), "unavailable")
    assert.strictEqual(stateWith(said(3, false), said(2, true)), "online")
    assert.strictEqual(stateWith(said(1, false), said(2, true), said(0, false, "laptop")), "online")
    assert.strictEqual(stateWith(said(1, false), { ...said(2, true), connected: false }), "online")
    assert.strictEqual(stateWith({ ...connected(minute), away: true }, connected(minute)), "online")
  })

  it("a chosen state wins while connected, and idling suspends free_for_chat", () => {
    const choose = (state: "unavailable" | "offline" | "free_for_chat", now: number) =>
      mergePresence(facts({ devices: [connected(minute)], choice: { state, at: minute } }), now).state
    assert.strictEqual(choose("unavailable", 2 * minute), "unavailable")
    assert.strictEqual(choose("offline", 2 * minute), "offline")
    assert.strictEqual(choose("free_for_chat", 2 * minute), "free_for_chat")
    assert.strictEqual(choose("free_for_chat", 10 * minute), "unavailable")
  })

  it("if the clock was put back, later times count as now", () => {
    const now = 10 * minute
    const later = 70 * minute
    const online = mergePresence(facts({ devices: [connected(later)], lastActiveAt: later }), now)
    assert.deepStrictEqual([online.state, online.lastActiveAt, online.until], ["online", now, now + idleAfter])
    const chosen = mergePresence(facts({ choice: { state: "unavailable", at: later } }), now)
    assert.deepStrictEqual(chosen.choice, { state: "unavailable", at: now })
    assert.strictEqual(chosen.until, now + idleAfter)
  })

  it("a choice ends when the last device disconnects", () => {
    const choice = { state: "free_for_chat", at: minute } as const
    const one = facts({ choice, devices: [disconnected(2 * minute), connected(2 * minute)] })
    assert.strictEqual(mergePresence(one, 3 * minute).state, "free_for_chat")
    const none = mergePresence(facts({ choice, devices: [disconnected(2 * minute)] }), 3 * minute)
    assert.deepStrictEqual([none.state, none.choice], ["offline", undefined])
  })

  it("a choice made without a connection holds for a while, and for longer if a device connects", () => {
    const choice = { state: "unavailable", at: minute } as const
    const merged = mergePresence(facts({ choice }), 2 * minute)
    assert.deepStrictEqual([merged.state, merged.until], ["unavailable", minute + idleAfter])
    assert.strictEqual(mergePresence(facts({ choice }), minute + idleAfter).state, "offline")
    assert.strictEqual(
      mergePresence(facts({ choice, devices: [connected(2 * minute)] }), 60 * minute).state,
      "unavailable"
    )
  })

  it("hidden outlives connections: only another choice ends it", () => {
    const choice = { state: "hidden", at: minute } as const
    assert.strictEqual(mergePresence(facts({ choice, devices: [connected(2 * minute)] }), 3 * minute).state, "hidden")
    assert.strictEqual(
      mergePresence(facts({ choice, devices: [disconnected(2 * minute)] }), 60 * minute).state,
      "hidden"
    )
  })
})
