import FelixSettings
import Resources
import Testing

private let node = "n1"

private func configuration(
  _ name: String, created: String = "2026-01-01T00:00:00Z", _ values: [String: FelixParameterValue], faults: [String: String] = [:]
) -> Resource {
  var spec = FelixConfigurationSpec(values)
  spec.faults = faults
  return Resource(Metadata(name: name, creationTimestamp: created), .felixConfiguration(spec))
}

private func stored(labels: [String: String] = [:], _ resources: [Resource]) -> StoredSettings {
  var stored = StoredSettings(node: node)
  for resource in [Resource(Metadata(name: node, labels: labels), .node(NodeSpec()))] + resources { stored.note(resource.key, resource) }
  return stored
}

private func text(_ resolution: SettingsResolution, _ field: String) -> String? { resolution.effective.text(field) }

@Suite("The order of the sources of Felix's settings")
struct ResolutionTests {
  private static func rack(_ prefix: String) -> [String: FelixParameterValue] {
    ["nodeSelector": .text("rack == 'a'"), "logPrefix": .text(prefix)]
  }
  private static let layers: [(name: String, add: @Sendable (inout [Resource], inout [SettingsLayer]) -> Void)] = [
    ("default", { resources, _ in resources.append(configuration("default", ["logPrefix": .text("default")])) }),
    ("selected", { resources, _ in resources.append(configuration("racks", rack("selected"))) }),
    ("node", { resources, _ in resources.append(configuration("node.n1", ["logPrefix": .text("node")])) }),
    ("file", { _, local in local.append(SettingsLayer(file: "felix.cfg", text: "[global]\nLogPrefix = file\n")) }),
    ("environment", { _, local in local.append(SettingsLayer(environment: ["felix_LogPrefix": "environment"])) }),
    ("override", { _, local in local.append(SettingsLayer(.override("--log-prefix"), ["logPrefix": .text("override")])) }),
  ]

  @Test("Of every subset of the sources the strongest counts, and the others are overruled in their order")
  func everySubset() {
    for subset in 0..<(1 << Self.layers.count) {
      var resources: [Resource] = []
      var local: [SettingsLayer] = []
      let names = Self.layers.indices.filter { subset & 1 << $0 != 0 }.map { index in
        Self.layers[index].add(&resources, &local)
        return Self.layers[index].name
      }
      let resolution = SettingsResolution(stored(labels: ["rack": "a"], resources.shuffled()), local: local)
      let given = resolution.setting(FelixParameter.named("logPrefix")!).given.map(\.value)
      #expect(given == names.reversed().map { .text($0) })
      #expect(text(resolution, "logPrefix") == names.last)
      #expect(resolution.problems.isEmpty && resolution.findings.isEmpty)
    }
  }

  @Test("A configuration with a selector holds for the nodes that it selects, and follows their labels")
  func selection() {
    var settings = stored(labels: ["rack": "b"], [configuration("racks", Self.rack("racks"))])
    #expect(text(SettingsResolution(settings), "logPrefix") == nil)
    let isNews = settings.note(ResourceKey(.node, name: node), Resource(Metadata(name: node, labels: ["rack": "a"]), .node(NodeSpec())))
    #expect(isNews)
    #expect(text(SettingsResolution(settings), "logPrefix") == "racks")
    let isOthersNews = settings.note(ResourceKey(.node, name: "n2"), Resource(Metadata(name: "n2", labels: ["rack": "a"]), .node(NodeSpec())))
    #expect(!isOthersNews)
    settings.note(ResourceKey(.node, name: node), nil)
    #expect(text(SettingsResolution(settings), "logPrefix") == nil)
  }

  @Test("Of several that select a node the oldest counts, field by field, and the younger ones are told")
  func oldest() {
    let resources = [
      configuration("young", created: "2026-03-01T00:00:00Z", Self.rack("young").merging(["ipv6Support": .flag(false)]) { $1 }),
      configuration("old", created: "2026-02-01T00:00:00Z", Self.rack("old")),
      configuration("same", created: "2026-04-01T00:00:00Z", Self.rack("old")),
    ]
    for order in [resources, resources.reversed()] {
      let resolution = SettingsResolution(stored(labels: ["rack": "a"], order))
      #expect(text(resolution, "logPrefix") == "old")
      #expect(resolution.effective.flag("ipv6Support") == false)
      #expect(resolution.findings.keys.sorted() == ["young"])
      #expect(resolution.findings["young"]?.hasPrefix("logPrefix is overruled by FelixConfiguration old") == true)
    }
  }

  @Test("What cannot be read is kept out: the next weaker source counts, and both are told")
  func faults() {
    let resources = [
      configuration("default", ["ipv6Support": .flag(false)]),
      configuration("node.n1", [:], faults: ["ipv6Support": "\"maybe\" is not true or false"]),
    ]
    let local = [
      SettingsLayer(file: "/etc/f.cfg", text: "Ipv6Support = perhaps\nLogPrefxi = a\n"),
      SettingsLayer(environment: ["FELIX_IPV6SUPPORT": "si", "FELIX_REPORTINGTTLSECS": "0"]),
    ]
    let resolution = SettingsResolution(stored(resources), local: local)
    #expect(resolution.effective.ipv6Support == false)
    #expect(
      resolution.findings == ["node.n1": "\"maybe\" is not true or false; what FelixConfiguration default says is in force"])
    #expect(
      resolution.problems.sorted() == [
        "FELIX_IPV6SUPPORT in the environment: \"si\" is not true or false; what FelixConfiguration default says is in force",
        "FELIX_REPORTINGTTLSECS in the environment: \"0\" lets the status vanish at once; the default is in force",
        "Ipv6Support in /etc/f.cfg: \"perhaps\" is not true or false; what FelixConfiguration default says is in force",
        "LogPrefxi in /etc/f.cfg: is no parameter of Felix; did you mean LogPrefix?",
      ])
    #expect(resolution.setting(FelixParameter.named("ipv6Support")!).faults.count == 3)
  }

  @Test("A configuration that holds for no node, or whose selector counts for nothing, says so")
  func misnamed() {
    let resolution = SettingsResolution(
      stored([
        configuration("wrong", ["logPrefix": .text("a")]),
        configuration("default", ["nodeSelector": .text("all()"), "logPrefix": .text("b")]),
        configuration("unreadable", ["logPrefix": .text("c")], faults: ["nodeSelector": "is not a selector"]),
        configuration("node.n2", ["nodeSelector": .text("all()")], faults: ["logPrefix": "is bad"]),
      ]))
    #expect(text(resolution, "logPrefix") == "b")
    #expect(resolution.findings.keys.sorted() == ["default", "unreadable", "wrong"])
  }
}
