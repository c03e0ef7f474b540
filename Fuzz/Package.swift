// swift-tools-version: 6.2
import PackageDescription

// Built by scripts/fuzz with `--sanitize fuzzer`, which brings the main function. The properties are a library of the package above, so that
// its tests can replay without a fuzzer what was found with one.

let package = Package(
  name: "margay-fuzz",
  dependencies: [.package(name: "margay", path: "..")],
  targets: [
    .executableTarget(
      name: "margay-fuzz",
      dependencies: [.product(name: "FuzzTargets", package: "margay")],
      swiftSettings: [.unsafeFlags(["-parse-as-library"])])
  ],
  swiftLanguageModes: [.v6]
)
