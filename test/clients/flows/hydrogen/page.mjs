/**
 * The page of the Hydrogen flow: the whole application, composed of the exports of `hydrogen-view-sdk`.
 */
import { createNavigation, createRouter, FeatureSet, Platform, RootViewModel } from "hydrogen-view-sdk"

const container = document.querySelector("#app")
const assetPaths = {
  downloadSandbox: "/assets/download-sandbox.html",
  worker: "/assets/main.js",
  olm: { wasm: "/olm/olm.wasm", legacyBundle: "/olm/olm_legacy.js", wasmBundle: "/olm/olm.js" },
  serviceWorker: "/sw.js"
}
const config = { defaultHomeServer: container.dataset.homeserver }
const platform = new Platform({ container, assetPaths, config, options: { development: false } })
const navigation = createNavigation()
platform.setNavigation(navigation)
await platform.init()
const urlRouter = createRouter({ navigation, history: platform.history })
urlRouter.attach()
const features = await FeatureSet.load(platform.settingsStorage)
const root = new RootViewModel({ platform, urlRouter, navigation, features })
await root.load()
platform.createAndMountRootView(root)
