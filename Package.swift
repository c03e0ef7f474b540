// swift-tools-version: 6.2
import PackageDescription

// The dependencies written here are the architecture: see ARCHITECTURE.md. A folder imports only folders listed above it.

let strict: [SwiftSetting] = [
  .strictMemorySafety(),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
]

/// A library target of ours at `Sources/<folder>/<name>`.
func module(_ folder: String, _ name: String, _ dependencies: [Target.Dependency] = [], settings: [SwiftSetting] = []) -> Target {
  .target(name: name, dependencies: dependencies, path: "Sources/\(folder)/\(name)", swiftSettings: strict + settings)
}

/// The tests of one or more modules at `Tests/<name>Tests`.
func tests(_ name: String, _ dependencies: [Target.Dependency], resources: [Resource] = []) -> Target {
  .testTarget(
    name: "\(name)Tests", dependencies: dependencies, path: "Tests/\(name)Tests", resources: resources,
    swiftSettings: [.enableUpcomingFeature("ExistentialAny")])
}

/// `MARGAY_TESTS=Documents,Datastore`: only these test targets exist, so that `swift build --product margayPackageTests` builds what they need.
let testsWanted = Context.environment["MARGAY_TESTS"].map { $0.split(separator: ",").map { "\($0)Tests" } }

/// Set by scripts/sanitize: a sanitizer's runtime cannot be linked into a static executable.
let isSanitized = Context.environment["MARGAY_SANITIZER"] != nil

let log: Target.Dependency = .product(name: "Logging", package: "swift-log")
let arguments: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
let deque: Target.Dependency = .product(name: "DequeModule", package: "swift-collections")

let package = Package(
  name: "margay",
  products: [
    .executable(name: "margay", targets: ["margay"]),
    .executable(name: "margay-cni", targets: ["margay-cni"]),
    // For the packages beside this one: Fuzz.
    .library(name: "FuzzTargets", targets: ["FuzzTargets"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
    .package(url: "https://github.com/apple/swift-log", exact: "1.16.2"),
    .package(url: "https://github.com/apple/swift-collections", exact: "1.6.0"),
    .package(url: "https://github.com/jpsim/Yams", exact: "6.2.2"),
    .package(url: "https://github.com/groue/GRDB.swift", exact: "7.10.0"),
    .package(url: "https://github.com/apple/swift-nio", exact: "2.101.2"),
    .package(url: "https://github.com/apple/swift-nio-http2", exact: "1.46.0"),
    .package(url: "https://github.com/apple/swift-nio-ssl", exact: "2.37.6"),
    .package(url: "https://github.com/hummingbird-project/hummingbird", exact: "2.28.1"),
  ],
  targets: [
    // Vocabulary: what everyone may say.
    module("Vocabulary", "Octets", settings: [.enableExperimentalFeature("Lifetimes")]),
    module("Vocabulary", "Addresses", ["Octets"]),
    module("Vocabulary", "Names"),
    module("Vocabulary", "Deltas"),
    module("Vocabulary", "Selectors", ["Names"]),
    module("Vocabulary", "Resources", ["Addresses", "Names"]),
    module("Vocabulary", "HostPlans", ["Addresses", "Names", "Resources"]),

    // Formats: bytes and text <-> values.
    module("Formats", "JSON"),
    module("Formats", "Tables"),
    module("Formats", "MetricsText"),
    module("Formats", "Documents", ["JSON", "Resources", "Selectors", "Addresses", "Names", "Yams"]),
    module("Formats", "OutputForms", ["JSON", "Selectors"]),
    module("Formats", "Patches", ["JSON"]),
    module("Formats", "BGPMessages", ["Octets", "Addresses"]),
    module("Formats", "NetlinkMessages", ["Octets", "Addresses"]),
    module("Formats", "Rulesets", ["Octets", "Addresses", "NetlinkMessages"]),
    module("Formats", "CNIMessages", ["JSON", "Addresses"]),
    module("Formats", "EtcdMessages", ["Octets"]),

    // Reasoning: pure decisions; no clock, no socket, no task.
    module("Reasoning", "FelixSettings", ["Addresses", "Names", "Resources", "Selectors"]),
    module("Reasoning", "Calculation", ["FelixSettings", "Addresses", "Names", "Deltas", "Selectors", "Resources", "HostPlans"]),
    module("Reasoning", "PolicyRendering", ["Addresses", "Names", "Resources", "HostPlans", "Rulesets"]),
    module("Reasoning", "FlowVerdicts", ["Addresses", "Resources", "HostPlans"]),
    module("Reasoning", "PolicyOracle", ["Addresses", "Selectors", "Resources"]),
    module("Reasoning", "AddressPlans", ["JSON", "Addresses", "Names", "Resources", "Selectors"]),
    module("Reasoning", "BGPSessions", ["Addresses", "BGPMessages"]),
    module("Reasoning", "BGPRoutes", ["Addresses", "Deltas", "BGPMessages"]),

    // Edges: effects; each has a fake that obeys its rules.
    .target(name: "CLinux", path: "Sources/Edges/CLinux"),
    module("Edges", "Sockets", ["CLinux", "Octets", "Addresses"]),
    module("Edges", "NetlinkEdge", ["CLinux", "Sockets", "Octets", "Addresses", "NetlinkMessages"]),
    module(
      "Edges", "RulesetDriver",
      ["CLinux", "Sockets", "NetlinkEdge", "NetlinkMessages", "Octets", "Rulesets", "Addresses", "Deltas", log]),
    module("Edges", "FlowReader", ["Sockets", "NetlinkEdge", "NetlinkMessages", "Octets", "HostPlans", "Resources", "Addresses"]),
    module("Edges", "RouteDriver", ["Sockets", "NetlinkEdge", "NetlinkMessages", "Addresses", "Deltas", "HostPlans", log]),
    module("Edges", "LinkDriver", ["Sockets", "NetlinkEdge", "NetlinkMessages", "Addresses", "HostPlans", log]),
    module("Edges", "TunnelDriver", ["Sockets", "NetlinkEdge", "NetlinkMessages", "Addresses", "Deltas", "Resources"]),
    module("Edges", "TrafficDriver", ["NetlinkEdge", "NetlinkMessages", "Names", "Octets"]),
    module("Edges", "BGPTransport", ["CLinux", "Sockets", "Addresses", "BGPMessages"]),
    module("Edges", "Datastore", ["JSON", "MetricsText", "Documents", "Resources", "Names", "Deltas", "Addresses"]),
    module("Edges", "DatastoreMemory", ["Datastore"]),
    module("Edges", "DatastoreSQLite", ["Datastore", "Sockets", .product(name: "GRDB", package: "GRDB.swift")]),
    module("Edges", "DatastoreEtcd", [
      "Datastore", "EtcdMessages", "Names", "Octets", "Sockets", .product(name: "NIOCore", package: "swift-nio"),
      .product(name: "NIOPosix", package: "swift-nio"), .product(name: "NIOTLS", package: "swift-nio"), .product(name: "NIOHPACK", package: "swift-nio-http2"),
      .product(name: "NIOHTTP2", package: "swift-nio-http2"), .product(name: "NIOSSL", package: "swift-nio-ssl"),
    ]),
    module("Edges", "Datastores", ["Datastore", "DatastoreSQLite", "DatastoreEtcd", "Documents", "JSON"]),
    module("Edges", "DaemonLogs", ["CLinux", "Names", "Resources", "Sockets", log]),
    module("Edges", "HealthServer", [
      "JSON", "MetricsText", "Resources", "Sockets", log, .product(name: "Hummingbird", package: "hummingbird"),
      .product(name: "HummingbirdCore", package: "hummingbird"), .product(name: "NIOCore", package: "swift-nio"),
      .product(name: "NIOPosix", package: "swift-nio"),
    ]),
    module("Edges", "AddressAssignment", ["AddressPlans", "Datastore", "JSON", "Resources", "Addresses", "Names", log]),

    // Programs: assembled from the above.
    module("Programs", "CNIServer", [
      "CNIMessages", "JSON", "Sockets", "NetlinkEdge", "NetlinkMessages", "Octets", "Datastore", "AddressAssignment", "Resources", "Names",
      "Addresses", log,
    ]),
    module("Programs", "FelixProgram", [
      "FelixSettings", "DaemonLogs", "FlowReader", "FlowVerdicts", "Calculation", "PolicyRendering", "RulesetDriver", "RouteDriver", "LinkDriver", "TunnelDriver", "TrafficDriver", "NetlinkEdge", "NetlinkMessages", "Rulesets", "Sockets",
      "Datastore", "AddressAssignment", "AddressPlans", "Documents", "JSON", "Resources", "Selectors", "HostPlans", "Addresses", "Names", "CNIServer",
      "HealthServer", "MetricsText", log,
    ]),
    module("Programs", "BGPProgram", [
      "FelixSettings", "BGPMessages", "BGPSessions", "BGPRoutes", "BGPTransport", "NetlinkEdge", "NetlinkMessages", "Sockets", "RouteDriver", "Datastore", "Documents", "JSON",
      "Resources", "Selectors", "Addresses", "Deltas", "Names", "HealthServer", "MetricsText", log,
    ]),
    module("Programs", "ControllersProgram", ["AddressAssignment", "AddressPlans", "Datastore", "Documents", "HealthServer", "JSON", "MetricsText", "Names", "Resources", "Sockets", log]),
    module("Programs", "NodeProgram", [
      "CLinux", "Sockets", "NetlinkEdge", "NetlinkMessages", "Datastore", "AddressAssignment", "Resources", "Addresses", "Names", "JSON", log,
    ]),
    module("Programs", "ObjectViews", [
      "OutputForms", "NodeProgram", "Datastore", "AddressAssignment", "Documents", "JSON", "Tables", "Resources", "Addresses", "Names",
    ]),
    module("Programs", "ResourceVerbs", [
      "Datastore", "NodeProgram", "AddressAssignment", "AddressPlans", "Documents", "OutputForms", "Patches", "JSON", "Resources", "Addresses",
      "Names", "Sockets",
    ]),
    module("Programs", "HostChecks", [
      "PolicyRendering", "Rulesets", "RulesetDriver", "NetlinkEdge", "NetlinkMessages", "Octets", "Sockets", "Datastore", "Documents", "JSON", "Resources",
      "Names", "Addresses",
    ]),
    module("Programs", "ExplainProgram", [
      "PolicyOracle", "Calculation", "HostPlans", "PolicyRendering", "Rulesets", "RulesetDriver", "NetlinkEdge", "Datastore", "Documents", "JSON",
      "Tables", "Resources", "Addresses",
    ]),
    module("Programs", "DatastoreProgram", ["AddressPlans", "Calculation", "Datastore", "Documents", "JSON", "Resources", "Names", "Addresses"]),
    module("Programs", "LabProgram", [
      "CLinux", "Sockets", "NetlinkEdge", "NetlinkMessages", "Datastore", "Documents", "JSON", "Resources", "Selectors", "PolicyOracle", "Addresses", "Names",
      "CNIMessages", "Tables", log,
    ]),

    // Commands: parse, assemble, run.
    .executableTarget(
      name: "margay",
      dependencies: [
        "DatastoreProgram", "AddressPlans",
        "FelixSettings", "DaemonLogs", "FelixProgram", "BGPProgram", "ControllersProgram", "NodeProgram", "LabProgram", "ExplainProgram", "Datastore", "DatastoreMemory", "Datastores", "HealthServer",
        "ObjectViews", "OutputForms", "HostChecks", "ResourceVerbs", "Patches", "Rulesets", "Calculation",
        "Documents", "JSON", "Resources", "Selectors", "AddressAssignment", "Addresses", "Names", "Sockets", "NetlinkEdge", "Tables", "DatastoreEtcd", log,
        arguments,
      ],
      path: "Sources/Commands/margay", swiftSettings: strict),
    .executableTarget(
      name: "margay-cni",
      dependencies: ["CNIMessages", "JSON", "CLinux", "Sockets", "Addresses"],
      path: "Sources/Commands/margay-cni", swiftSettings: strict,
      linkerSettings: isSanitized ? [] : [.unsafeFlags(["-static-executable", "-Xlinker", "-s", "-Xlinker", "--gc-sections"])]),

    // Testing: libraries for tests.
    module("../Testing", "KernelSandbox", ["CLinux", "Sockets", "NetlinkEdge"]),
    module("../Testing", "DatastoreContract", ["Datastore", "Resources", "JSON", "Addresses"]),
    module("../Testing", "EtcdServer", ["CLinux", "Sockets", "DatastoreEtcd"]),
    module("../Testing", "RandomClusters", ["Resources", "Addresses"]),
    module("../Testing", "PlanReading", ["PolicyOracle", "HostPlans", "Resources", "Addresses"]),
    module("../Testing", "FuzzTargets", [
      "JSON", "Documents", "OutputForms", "Patches", "Selectors", "Resources", "Names", "Addresses", "Octets", "AddressPlans", "AddressAssignment", "Datastore",
      "BGPMessages", "BGPSessions", "BGPRoutes", "NetlinkMessages", "Rulesets", "CNIMessages", "EtcdMessages", "LabProgram",
    ]),
    .executableTarget(name: "feed-probe", dependencies: ["Datastore", "Datastores", "Sockets"], path: "Testing/feed-probe"),
    .executableTarget(
      name: "datastore-probe",
      dependencies: ["Datastore", "Datastores", "DatastoreSQLite", "Sockets", .product(name: "GRDB", package: "GRDB.swift")],
      path: "Testing/datastore-probe"),

    .executableTarget(
      name: "address-probe",
      dependencies: ["AddressAssignment", "AddressPlans", "Addresses", "Datastore", "Datastores", "JSON", "Names", "Resources", "Sockets"],
      path: "Testing/address-probe"),

    // Ours beside its peers; in this package so that it is built with what it measures (design/benchmarks.md).
    .executableTarget(
      name: "margay-bench",
      dependencies: [
        "CLinux", "Sockets", "NetlinkEdge", "NetlinkMessages", "Rulesets", "RulesetDriver", "RouteDriver", "PolicyRendering", "Calculation",
        "HostPlans", "Resources", "Addresses", "Names", "JSON", "Tables", "Datastore", "Datastores", "AddressAssignment", "NodeProgram", "KernelSandbox",
      ],
      path: "Benchmarks", exclude: ["RESULTS.md"], swiftSettings: [.enableUpcomingFeature("ExistentialAny")]),

    tests("Addresses", ["Octets", "Addresses"]),
    tests("FuzzTargets", ["FuzzTargets"]),
    tests("Selectors", ["Selectors", "Names"]),
    tests("Documents", ["JSON", "Documents", "Resources", "Addresses"]),
    tests("FieldTable", ["JSON", "Documents", "Resources", "Datastore", "DatastoreMemory", "Sockets"]),
    tests("HostChecks", ["HostChecks", "DatastoreMemory", "JSON", "Sockets"]),
    tests("ObjectViews", [
      "ObjectViews", "OutputForms", "DatastoreMemory", "Datastore", "Documents", "JSON", "Tables", "Resources", "Names", "Sockets",
    ]),
    tests("OutputForms", ["OutputForms", "JSON", "Documents"]),
    tests("Patches", ["Patches", "JSON"]),
    tests("ResourceVerbs", [
      "ResourceVerbs", "Patches", "Datastore", "DatastoreMemory", "Documents", "JSON", "Resources", "OutputForms", "Addresses", "Sockets",
    ]),
    tests("FelixSettings", ["FelixSettings", "DaemonLogs", "Sockets", log, "HostPlans", "Documents", "JSON", "Resources", "Addresses", "Names"]),
    tests("Calculation", ["Calculation", "HostPlans", "Deltas", "Resources", "Selectors", "Names", "Addresses", "RandomClusters"]),
    tests("PolicyOracle", ["PolicyOracle", "FlowVerdicts", "PlanReading", "Calculation", "HostPlans", "Resources", "Addresses", "RandomClusters"]),
    tests("Worlds", [
      "PolicyOracle", "PlanReading", "RandomClusters", "Calculation", "HostPlans", "PolicyRendering", "Rulesets", "RulesetDriver", "KernelSandbox",
      "NetlinkEdge", "Sockets", "CLinux", "Documents", "JSON", "Resources", "Addresses",
    ]),
    tests("PolicyRendering", [
      "FlowReader", "PolicyRendering", "PolicyOracle", "Calculation", "Rulesets", "RulesetDriver", "NetlinkEdge", "KernelSandbox", "Sockets", "HostPlans", "Resources",
      "Addresses", "RandomClusters",
    ]),
    tests("Netlink", ["Octets", "Deltas", "Sockets", "NetlinkMessages", "NetlinkEdge", "LinkDriver", "RouteDriver", "TunnelDriver", "Resources", "HostPlans", "Addresses", "KernelSandbox"]),
    tests("Traffic", ["TrafficDriver", "NetlinkEdge", "NetlinkMessages", "KernelSandbox", "Sockets", "Addresses"]),
    tests("Ruleset", ["Rulesets", "RulesetDriver", "NetlinkEdge", "NetlinkMessages", "Addresses", "KernelSandbox"]),
    tests("Datastore", [
      "Datastore", "DatastoreMemory", "DatastoreSQLite", "DatastoreEtcd", "EtcdServer", "DatastoreContract", "datastore-probe",
      "Documents", "JSON", "Resources", "Sockets",
    ]),
    tests("DatastoreProgram", [
      "DatastoreProgram", "NodeProgram", "AddressAssignment", "AddressPlans", "Calculation", "Datastore", "DatastoreMemory", "DatastoreSQLite", "DatastoreEtcd", "EtcdServer", "Documents",
      "JSON", "Resources", "Names", "Sockets",
    ]),
    tests("EtcdMessages", ["EtcdMessages", "Octets"]),
    tests("DatastoreEtcd", [
      "Datastore", "DatastoreEtcd", "Datastores", "DatastoreContract", "EtcdServer", "KernelSandbox", "NetlinkEdge", "CLinux", "feed-probe",
      "EtcdMessages", "Octets", "Documents", "JSON",
      "Resources", "Sockets", "Addresses",
    ]),
    tests("AddressPlans", [
      "AddressPlans", "AddressAssignment", "Datastore", "DatastoreMemory", "DatastoreSQLite", "Resources", "Sockets", "Names", "JSON", "Addresses",
    ]),
    tests("CNI", [
      "CNIMessages", "CNIServer", "JSON", "KernelSandbox", "DatastoreMemory", "Datastore", "NetlinkEdge", "NetlinkMessages", "Sockets", "Resources",
      "Addresses", "Names", log,
    ]),
    tests("Explain", [
      "ExplainProgram", "PolicyOracle", "Calculation", "HostPlans", "Rulesets", "RulesetDriver", "KernelSandbox", "NetlinkEdge", "Datastore", "DatastoreMemory",
      "Documents", "JSON", "Tables", "Resources", "Addresses", "Sockets",
    ]),
    tests("Health", ["FelixSettings", "HealthServer", "MetricsText", "JSON", "Resources", "Sockets", "Addresses", log]),
    tests("BGPMessages", ["BGPMessages", "Octets", "Addresses"]),
    tests("BGPSessions", ["BGPSessions", "BGPMessages", "Addresses"]),
    tests("BGPRoutes", ["BGPRoutes", "BGPMessages", "Addresses"]),
    tests("BGPProgram", [
      "BGPProgram", "BGPTransport", "BGPMessages", "BGPRoutes", "KernelSandbox", "DatastoreMemory", "Datastore", "NetlinkEdge", "NetlinkMessages", "Sockets", "HealthServer",
      "JSON", "Resources", "Addresses", log,
    ]),
    tests("Controllers", [
      "ControllersProgram", "Datastore", "DatastoreMemory", "DatastoreEtcd", "EtcdServer", "HealthServer", "JSON", "Resources", "Sockets", log,
    ]),
    tests("Lab", ["LabProgram", "BGPProgram", "Documents", "JSON", "PolicyOracle", "Resources", "Sockets", "Addresses"]),
    .executableTarget(name: "supervisor-probe", dependencies: ["NodeProgram", log], path: "Testing/supervisor-probe"),
    tests("Felix", [
      "FelixProgram", "NodeProgram", "supervisor-probe", "CNIServer", "DatastoreMemory", "Datastore", "AddressAssignment", "KernelSandbox",
      "NetlinkEdge", "NetlinkMessages", "Sockets", "HealthServer", "Names", "Calculation", "JSON", "Resources", "Addresses", log,
    ]),
  ].filter { target in testsWanted.map { !target.isTest || $0.contains(target.name) } ?? true },
  swiftLanguageModes: [.v6]
)
