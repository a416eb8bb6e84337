/**
 * The devices that are connected to this node's event streams, and the time of their last activity. A few hundred bytes per
 * user: the cost of tens of thousands of idle long polls in presence. It decides which users' Presence actors need a report
 * now; the actors decide what it means.
 *
 * A device between two polls is connected for a grace period longer. Plain memory, synchronous, owned by `Presences`.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { Outlook } from "./PresenceProtocol.ts"
import type { DeviceReport } from "./PresenceRules.ts"

interface Device {
  /** Polls and sockets that are open now. */
  connections: number
  connected: boolean
  /** The client reports that its user is away. */
  away: boolean
  /** When the client said last whether its user is away. */
  saidAt: number
  lastActiveAt: number
  /** It was active since the last report was made. */
  unreported: boolean
  /** When it was connected or disconnected last; 0 for a device that never was. */
  changedAt: number
  /** When a device without connections stops being connected, or its next activity is reported if it is not. */
  graceEnds: number
}

interface User {
  readonly devices: Map<string, Device>
  /** When the next report to the actor is due. */
  reportAt: number
  /** Whether the next activity must be reported to the actor. */
  idle: boolean
  /** The published presence of an absent user to which a device has been reported as present. */
  contradicted: object | undefined
}

/** The time for which a device stays hidden after its last poll with `set_presence=offline`, in ms. */
export const hiddenFor = 5 * 60_000

const hiddenKey = (userId: UserId, deviceId: string): string => `${userId} ${deviceId}`

/** The devices that are connected to this node, reported to the `Presence` actors. */
export class DeviceConnections {
  private readonly users = new Map<UserId, User>()
  /** The time until which devices are hidden, the earliest end first. */
  private readonly hidden = new Map<string, number>()
  private readonly grace: number
  /** The time of the last call. */
  private time = Number.NEGATIVE_INFINITY

  /** `grace`: for how many milliseconds a device is connected after its last poll ended. */
  constructor(grace: number) {
    this.grace = grace
  }

  /** If the clock was put back, all times go back with it, so that nothing waits for the difference. */
  private keepTime(now: number): void {
    const back = this.time - now
    this.time = now
    if (back <= 0) return
    for (const [key, until] of this.hidden) this.hidden.set(key, until - back)
    for (const user of this.users.values()) {
      user.reportAt -= back
      for (const device of user.devices.values()) {
        device.saidAt -= back
        device.lastActiveAt -= back
        device.changedAt -= back
        device.graceEnds -= back
      }
    }
  }

  private user(userId: UserId): User {
    let user = this.users.get(userId)
    if (user === undefined) {
      user = { devices: new Map(), reportAt: Number.POSITIVE_INFINITY, idle: false, contradicted: undefined }
      this.users.set(userId, user)
    }
    return user
  }

  private device(user: User, deviceId: string, now: number): Device {
    let device = user.devices.get(deviceId)
    if (device === undefined) {
      device = {
        connections: 0,
        connected: false,
        away: false,
        saidAt: now,
        lastActiveAt: now,
        unreported: false,
        changedAt: 0,
        graceEnds: 0
      }
      user.devices.set(deviceId, device)
    }
    return device
  }

  /**
   * A poll or socket of the device opened; `away`: its client reports that its user is away. `absence`: the user's published presence,
   * if that is `unavailable`, which an earlier poll at another node may have caused. True if the actor needs a report.
   */
  connect(userId: UserId, deviceId: string, now: number, away = false, absence?: object): boolean {
    this.keepTime(now)
    const user = this.user(userId)
    const device = this.device(user, deviceId, now)
    this.hidden.delete(hiddenKey(userId, deviceId))
    device.connections++
    device.saidAt = now
    const contradicts = !away && absence !== undefined && absence !== user.contradicted
    if (device.connected && device.away === away && !contradicts) return false
    if (contradicts) user.contradicted = absence
    if (!device.connected) Object.assign(device, { connected: true, lastActiveAt: now, changedAt: now })
    device.away = away
    user.reportAt = now
    return true
  }

  /** A poll or socket of the device ended. */
  disconnect(userId: UserId, deviceId: string, now: number): void {
    this.keepTime(now)
    const user = this.users.get(userId)
    const device = user?.devices.get(deviceId)
    if (user === undefined || device === undefined || --device.connections > 0) return
    device.graceEnds = now + this.grace
    user.reportAt = Math.min(user.reportAt, device.graceEnds)
  }

  /**
   * The client does not want its user to be shown online because of this device. That ends a connection without open polls and
   * sockets, and activity makes none for `hiddenFor`. True if the actor needs a report.
   */
  withdraw(userId: UserId, deviceId: string, now: number): boolean {
    this.keepTime(now)
    this.hide(userId, deviceId, now)
    const user = this.users.get(userId)
    const device = user?.devices.get(deviceId)
    if (user === undefined || !device?.connected || device.connections > 0) return false
    device.graceEnds = now
    user.reportAt = now
    return true
  }

  private hide(userId: UserId, deviceId: string, now: number): void {
    for (const [key, until] of this.hidden) {
      if (until > now) break
      this.hidden.delete(key)
    }
    const key = hiddenKey(userId, deviceId)
    this.hidden.delete(key)
    this.hidden.set(key, now + hiddenFor)
  }

  private isHidden(userId: UserId, deviceId: string, now: number): boolean {
    return this.hiddenUntil(userId, deviceId) > now
  }

  /** The time until which the device is hidden; in the past where it is not. */
  hiddenUntil(userId: UserId, deviceId: string): number {
    if (this.hidden.size === 0) return Number.NEGATIVE_INFINITY
    return this.hidden.get(hiddenKey(userId, deviceId)) ?? Number.NEGATIVE_INFINITY
  }

  /** The device is not hidden any more: it polls at another node. */
  reveal(userId: UserId, deviceId: string): void {
    this.hidden.delete(hiddenKey(userId, deviceId))
  }

  /**
   * The device was active. True if the actor needs a report. A device without a poll or socket is connected for the grace
   * period, unless it is hidden: then its last activity is reported once in a grace period.
   */
  active(userId: UserId, deviceId: string, now: number): boolean {
    this.keepTime(now)
    const user = this.user(userId)
    const device = this.device(user, deviceId, now)
    const isHidden = this.isHidden(userId, deviceId, now)
    device.lastActiveAt = now
    device.unreported = true
    const isNoted = device.connected ? !device.away : isHidden && device.graceEnds > now
    const isExtended = !isHidden || device.connected || !isNoted
    if (device.connections === 0 && isExtended) device.graceEnds = now + this.grace
    if (isNoted && !user.idle) return false
    if (!device.connected && !isHidden) Object.assign(device, { connected: true, changedAt: now })
    Object.assign(device, { away: false, saidAt: now })
    user.idle = false
    user.reportAt = now
    return true
  }

  /** The user's last activity on this node. */
  lastActiveAt(userId: UserId): number | undefined {
    const user = this.users.get(userId)
    if (user === undefined || user.devices.size === 0) return undefined
    return Math.max(...Array.from(user.devices.values(), (device) => device.lastActiveAt))
  }

  /** Users whose reports are due. Each is returned once, until something new happens to it. */
  due(now: number): ReadonlyArray<UserId> {
    this.keepTime(now)
    const due: Array<UserId> = []
    for (const [userId, user] of this.users) {
      if (user.reportAt > now) continue
      user.reportAt = Number.POSITIVE_INFINITY
      due.push(userId)
    }
    return due
  }

  /** The report for the actor. */
  report(userId: UserId, now: number): ReadonlyArray<DeviceReport> {
    this.keepTime(now)
    const reports: Array<DeviceReport> = []
    for (const [deviceId, device] of this.users.get(userId)?.devices ?? []) {
      if (device.connected && device.connections === 0 && device.graceEnds <= now) {
        const lastPoll = Math.max(device.changedAt, device.graceEnds - this.grace)
        Object.assign(device, { connected: false, changedAt: lastPoll })
      }
      device.unreported = false
      reports.push({
        connected: device.connected,
        ...(device.away ? { away: true } : {}),
        device: deviceId,
        said_at: device.saidAt,
        last_active_at: device.lastActiveAt,
        changed_at: device.changedAt
      })
    }
    return reports
  }

  /** The actor got the report of `now` and answered. Users with nothing left to report are forgotten. */
  reported(userId: UserId, outlook: Outlook, now: number): void {
    const user = outlook.until === undefined ? this.users.get(userId) : this.user(userId)
    if (user === undefined) return
    user.idle = outlook.idle
    user.reportAt = Math.min(user.reportAt, outlook.until ?? Number.POSITIVE_INFINITY)
    for (const [deviceId, device] of user.devices) {
      if (!device.connected && device.changedAt <= now && device.graceEnds <= now) user.devices.delete(deviceId)
      else if (device.connections === 0) user.reportAt = Math.min(user.reportAt, device.graceEnds)
      if (outlook.idle && device.unreported) user.reportAt = now
    }
    if (user.devices.size === 0 && user.reportAt === Number.POSITIVE_INFINITY) this.users.delete(userId)
  }

  /** The actors' published state is lost: each of them must get a report at `now`. */
  reportAll(now: number): void {
    for (const user of this.users.values()) user.reportAt = now
  }

  /** The report did not reach the actor: try again at `at`. */
  reportLater(userId: UserId, at: number): void {
    const user = this.user(userId)
    user.reportAt = Math.min(user.reportAt, at)
  }

  /** The user has no devices any more. */
  forget(userId: UserId): void {
    this.users.delete(userId)
  }
}
