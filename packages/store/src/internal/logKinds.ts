/**
 * Every kind of row that is read with the log, see `LogKind`.
 */
import { accountDataChanges } from "../AccountDataChange.ts"
import { accountStandings } from "../AccountStandingStore.ts"
import { banChanges } from "../BanStore.ts"
import { deviceListChanges, userSignatures } from "../DeviceListStore.ts"
import { erasures } from "../ErasureStore.ts"
import { keyCountChanges } from "../KeyCountChange.ts"
import { logEpochs } from "../LogEpoch.ts"
import type { AnyLogKind } from "../LogKind.ts"
import { pusherChanges } from "../PusherStore.ts"
import { receiptChanges } from "../ReceiptChange.ts"
import { sessionRevocations } from "../SessionRevocation.ts"
import { shortLivedRows } from "../ShortLivedRow.ts"
import { toDeviceMessages } from "../ToDeviceMessage.ts"

export const logKinds: ReadonlyArray<AnyLogKind> = [
  logEpochs,
  sessionRevocations,
  accountStandings,
  erasures,
  banChanges,
  accountDataChanges,
  receiptChanges,
  pusherChanges,
  deviceListChanges,
  keyCountChanges,
  userSignatures,
  toDeviceMessages,
  shortLivedRows
]
