import Documents
import FelixSettings
import HostPlans
import JSON
import Resources
import Testing

@Suite("Felix's settings as texts")
struct TextTests {
  private func value(_ name: String, _ text: String) throws -> FelixParameterValue { try #require(FelixParameter.known(as: name)).value(of: text) }

  @Test("Every default of the table is a value of its setting, and the one that holds in the host's settings")
  func defaults() throws {
    var values: [String: FelixParameterValue] = [:]
    for parameter in FelixParameter.all where !parameter.usual.isEmpty && parameter.form != .failsafePorts {
      values[parameter.field] = try parameter.value(of: parameter.usual)
    }
    values["failsafeInboundHostPorts"] = try value(
      "FailsafeInboundHostPorts", "tcp:22,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667,udp:68")
    values["failsafeOutboundHostPorts"] = try value(
      "FailsafeOutboundHostPorts", "udp:53,udp:67,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667")
    #expect(HostSettings(FelixConfigurationSpec(values)) == HostSettings())
  }

  @Test("A name is known as Calico spells it, as FelixConfiguration does, and in any case of letters")
  func names() {
    for name in ["ReportingIntervalSecs", "reportinginterval", "REPORTINGINTERVALSECS", "reportingInterval"] {
      #expect(FelixParameter.known(as: name)?.field == "reportingInterval")
    }
    for (name, field) in [
      "IpInIpEnabled": "ipipEnabled", "BPFEnabled": "bpfEnabled", "NFTablesMode": "nftablesMode", "ExternalNodesCIDRList": "externalNodesList",
      "WireguardPersistentKeepAlive": "wireguardKeepAlive", "XDPEnabled": "xdpEnabled", "Ipv6Support": "ipv6Support",
    ] { #expect(FelixParameter.known(as: name)?.field == field) }
    #expect(Set(FelixParameter.all.map { $0.name.lowercased() }).count == FelixParameter.all.count)
  }

  @Test(
    "Texts and their values",
    arguments: [
      ("Ipv6Support", "No", .flag(false)), ("VXLANPort", "4790", .number(4790)), ("NftablesMarkMask", "0xff000000", .number(0xff00_0000)),
      ("ReportingIntervalSecs", "30", .text("30s")), ("ReportingIntervalSecs", "1m", .text("1m0s")), ("RouteRefreshInterval", "0.5", .text("500ms")),
      ("IptablesLockProbeIntervalMillis", "50", .text("50ms")), ("DefaultEndpointToHostAction", "RETURN", .text("Return")),
      ("ExternalNodesCIDRList", "10.0.0.0/8, fd00::/8", .texts(["10.0.0.0/8", "fd00::/8"])), ("NATPortRange", "32768:65535", .ports(.range("32768:65535"))),
      ("RouteTableRange", "1-250", .tableRange(1...250)), ("LogSeveritySys", "NONE", .text("none")), ("LogFilePath", "None", .text("none")),
      ("FailsafeInboundHostPorts", "none", .failsafePorts([])), ("OpenstackRegion", "none", .text("")), ("MetadataAddr", "None", .text("none")),
      ("BPFLogFilters", "all=tcp, cali1=udp", .map(["all": "tcp", "cali1": "udp"])),
      ("HealthTimeoutOverrides", "loop=20s", .timeouts([.init(name: "loop", timeout: "20s")])),
      (
        "FailsafeOutboundHostPorts", "22, udp:53,tcp:10.0.0.0/8:443,tcp:[fd00::/8]:443",
        .failsafePorts([
          .init(ipProtocol: "tcp", port: 22, net: ""), .init(ipProtocol: "udp", port: 53, net: ""),
          .init(ipProtocol: "tcp", port: 443, net: "10.0.0.0/8"), .init(ipProtocol: "tcp", port: 443, net: "fd00::/8"),
        ])
      ),
    ] as [(String, String, FelixParameterValue)])
  func texts(name: String, text: String, expected: FelixParameterValue) throws { #expect(try value(name, text) == expected) }

  @Test(
    "Texts that are no value",
    arguments: [
      ("Ipv6Support", "maybe"), ("VXLANPort", "0"), ("VXLANPort", "65536"), ("VXLANPort", "none"), ("ReportingTTLSecs", "0"),
      ("ReportingIntervalSecs", "-1"), ("RouteRefreshInterval", "soon"), ("ExternalNodesCIDRList", "10.0.0.0/8,ten"), ("NATPortRange", "9:1"),
      ("FailsafeInboundHostPorts", "tcp:22,icmp:1"), ("FailsafeInboundHostPorts", "tcp:10.0.0.0/8"), ("InterfacePrefix", "cali,a/b"),
      ("InterfacePrefix", "none"), ("LogSeverityScreen", "loud"), ("MTUIfacePattern", "(eth"), ("NATOutgoingAddress", "here"),
      ("WireguardInterfaceName", "a-name-too-long-for-linux"), ("LogActionRateLimit", "fast"), ("RouteTableRange", "9-1"), ("BPFLogFilters", "all"),
    ])
  func refusals(name: String, text: String) { #expect(throws: SettingFault.self) { try value(name, text) } }

  @Test("The file: sections, comments, blanks, quotes and the ends of lines of any system")
  func file() {
    let layer = SettingsLayer(
      file: "f", text: "# a\r\n[global]\r\nMetadataAddr = None\r\n; b\nlogprefix: \"p q\"\nVXLANPort=4790\n\nnonsense\nEtcdEndpoints = http://e\nTyphaAddr = t\nVxlanPort = 4791\n")
    #expect(layer.values == ["metadataAddr": .text("none"), "logPrefix": .text("p q"), "vxlanPort": .number(4791)])
    #expect(
      layer.faults.map { "\($0.name) \($0.reason)" } == [
        "line 8 is not of the form Name = value",
        "EtcdEndpoints is not read from a file: the datastore is named by --datastore, MARGAY_DATASTORE or ETCD_ENDPOINTS",
        "VxlanPort stands in line 6 and in line 11: the last one counts",
      ])
    #expect(layer.notes == ["TyphaAddr has no effect here: there is no Typha: the datastore is read directly"])
  }

  @Test("The environment: only FELIX_, not what is empty, and not what others read")
  func environment() {
    let layer = SettingsLayer(environment: [
      "FELIX_LOGPREFIX": "a", "felix_ipv6support": "", "PATH": "/bin", "FELIX_ETCDENDPOINTS": "http://e", "FELIX_VXLANPROT": "1", "FELIX_NODESELECTOR": "all()",
    ])
    #expect(layer.values == ["logPrefix": .text("a")])
    #expect(
      layer.faults.map { "\($0.name) \($0.reason)" } == [
        "FELIX_NODESELECTOR is no parameter of Felix", "FELIX_VXLANPROT is no parameter of Felix; did you mean FELIX_VXLANPORT?",
      ])
  }

  @Test("A stored configuration with bad values is read without them, and knows which")
  func stored() throws {
    let document = try JSONValue(
      parsing: Array(
        """
        {"kind":"FelixConfiguration","metadata":{"name":"default"},"spec":{"vxlanPort":4790,"ipv6Support":"yes","routeRefreshInterval":"fast",
        "failsafeInboundHostPorts":[{"protocol":"tcp","port":22},{"protocol":"tcp","port":70000}],"openstackRegion":"A b","reportingTTL":"0s"}}
        """.utf8))
    let resource = try ResourceCodec.decodeLenient(kind: .felixConfiguration, value: document)
    guard case .felixConfiguration(let spec) = resource.spec else { throw SettingsMissing() }
    #expect(spec.values == ["vxlanPort": .number(4790)])
    #expect(spec.faults.keys.sorted() == ["failsafeInboundHostPorts", "ipv6Support", "openstackRegion", "reportingTTL", "routeRefreshInterval"])
  }
}

private struct SettingsMissing: Error {}
