/// All settings of Felix in one table: what each takes, what holds without it, and whether it does something here.
///
/// Reading, checks, suggestions and the table of fields follow from it. Defaults are Calico's, except where design pages say otherwise.

public struct FelixParameter: Hashable, Sendable {
  public enum Form: Hashable, Sendable {
    case flag, text, texts, duration, selector
    /// `10/minute`.
    case rate
    /// A regular expression.
    case pattern
    case interfaceName, address, networks
    /// A port, or two ends in the form `min:max`.
    case portRange
    case portRanges
    /// 32 bits.
    case mask
    /// `name=value`, with commas between.
    case keyValues
    case map
    /// Objects with `protocol`, `port` and `net`.
    case failsafePorts
    /// Objects with `name` and `timeout`.
    case timeouts
    /// `min` and `max`, numbers of routing tables.
    case tableRange
    case tableRanges
    case whole(ClosedRange<Int64>)
    /// One of these, in any case of letters, as Felix has always taken them.
    case word([String])
  }
  public enum Effect: Hashable, Sendable {
    case used
    /// Kept, without effect so far.
    case later
    /// Kept, and why it will not have any.
    case never(String)
  }
  /// As FelixConfiguration spells it.
  public let field: String
  public let form: Form
  /// What holds without it, in the words of a document; empty: nothing, or found out at run time.
  public let usual: String
  public let effect: Effect

  init(_ field: String, _ form: Form, _ usual: String, _ effect: Effect) {
    (self.field, self.form, self.usual, self.effect) = (field, form, usual, effect)
  }

  public static func named(_ field: String) -> FelixParameter? { byField[field] }
  private static let byField = Dictionary(uniqueKeysWithValues: all.map { ($0.field, $0) })
  private static let levels = ["Trace", "Debug", "Info", "Warning", "Error", "Fatal"]
  private static let ebpf = "there is no eBPF dataplane"

  public static let all: [FelixParameter] = [
    .init("interfacePrefix", .text, "cali", .used),
    .init("defaultEndpointToHostAction", .word(["Drop", "Accept", "Return"]), "Drop", .used),
    .init("ipv6Support", .flag, "true", .used),
    .init("logSeverityScreen", .word(levels), "Info", .used),
    .init("logPrefix", .text, "calico-packet", .used),
    .init("logActionRateLimit", .rate, "", .used),
    .init("logActionRateLimitBurst", .whole(0...9999), "5", .used),
    .init("routeRefreshInterval", .duration, "90s", .used),
    .init("openstackRegion", .text, "", .used),
    .init("reportingInterval", .duration, "30s", .used),
    .init("reportingTTL", .duration, "90s", .used),
    .init("endpointReportingEnabled", .flag, "true", .used),
    .init("endpointReportingDelay", .duration, "1s", .used),
    .init("healthEnabled", .flag, "true", .used),
    .init("healthHost", .text, "localhost", .used),
    .init("healthPort", .whole(1...65535), "9099", .used),
    .init("prometheusMetricsEnabled", .flag, "false", .used),
    .init("prometheusMetricsHost", .text, "", .used),
    .init("prometheusMetricsPort", .whole(1...65535), "9091", .used),
    .init("nodeSelector", .selector, "", .used),
    .init("interfaceExclude", .text, "kube-ipvs0", .used),
    .init("interfaceRefreshInterval", .duration, "90s", .used),
    .init("netlinkTimeout", .duration, "10s", .used),
    .init("nftablesRefreshInterval", .duration, "180s", .used),
    .init("nftablesMode", .word(["Auto", "Enabled", "Disabled"]), "Auto", .used),
    .init("nftablesFilterAllowAction", .word(["Accept", "Return"]), "Accept", .used),
    .init("nftablesMangleAllowAction", .word(["Accept", "Return"]), "Accept", .used),
    .init("nftablesFilterDenyAction", .word(["Drop", "Reject"]), "Drop", .used),
    .init("nftablesMarkMask", .mask, "4294901760", .used),
    .init("nftablesFlowTableOffload", .word(["Enabled", "Disabled"]), "Disabled", .later),
    .init("mtuIfacePattern", .pattern, "", .used),
    .init("requireMTUFile", .flag, "false", .used),
    .init("metadataAddr", .text, "127.0.0.1", .used),
    .init("metadataPort", .whole(1...65535), "8775", .used),
    .init("logFilePath", .text, "/var/log/calico/felix.log", .used),
    .init("logSeverityFile", .word(levels), "Info", .used),
    .init("logSeveritySys", .word(levels), "Info", .used),
    .init("ipipEnabled", .flag, "", .used),
    .init("ipipMTU", .whole(0...65535), "0", .used),
    .init("vxlanEnabled", .flag, "", .used),
    .init("vxlanMTU", .whole(0...65535), "0", .used),
    .init("vxlanMTUV6", .whole(0...65535), "0", .used),
    .init("vxlanPort", .whole(1...65535), "4789", .used),
    .init("vxlanVNI", .whole(1...16777215), "4096", .used),
    .init("allowVXLANPacketsFromWorkloads", .flag, "false", .used),
    .init("allowIPIPPacketsFromWorkloads", .flag, "false", .used),
    .init("endpointStatusPathPrefix", .text, "/var/run/calico", .used),
    .init("disableConntrackInvalidCheck", .flag, "false", .later),
    .init("healthTimeoutOverrides", .timeouts, "", .used),
    .init("prometheusProcessMetricsEnabled", .flag, "true", .used),
    .init("prometheusWireGuardMetricsEnabled", .flag, "true", .later),
    .init("prometheusMetricsCAFile", .text, "", .never("metrics are not served over TLS; where it is asked for, not at all")),
    .init("prometheusMetricsCertFile", .text, "", .never("metrics are not served over TLS; where it is asked for, not at all")),
    .init("prometheusMetricsKeyFile", .text, "", .never("metrics are not served over TLS; where it is asked for, not at all")),
    .init(
      "prometheusMetricsClientAuth",
      .word(["RequireAndVerifyClientCert", "RequireAnyClientCert", "VerifyClientCertIfGiven", "NoClientCert"]),
      "RequireAndVerifyClientCert", .never("metrics are not served over TLS; where it is asked for, not at all")),
    .init("failsafeInboundHostPorts", .failsafePorts, "tcp 22, 179, 2379, 2380, 5473, 6443, 6666, 6667; udp 68", .used),
    .init("failsafeOutboundHostPorts", .failsafePorts, "udp 53, 67; tcp 179, 2379, 2380, 5473, 6443, 6666, 6667", .used),
    .init("policySyncPathPrefix", .text, "", .never("no side-cars enforce policy at the application layer")),
    .init("natPortRange", .portRange, "", .used),
    .init("natOutgoingAddress", .address, "", .used),
    .init("natOutgoingExclusions", .word(["IPPoolsOnly", "IPPoolsAndHostIPs"]), "IPPoolsOnly", .used),
    .init("deviceRouteSourceAddress", .address, "", .used),
    .init("deviceRouteSourceAddressIPv6", .address, "", .used),
    .init("deviceRouteProtocol", .whole(0...255), "80", .used),
    .init("removeExternalRoutes", .flag, "true", .used),
    .init("ipForwarding", .word(["Enabled", "Disabled"]), "Enabled", .used),
    .init("externalNodesList", .networks, "", .later),
    .init("routeSource", .word(["CalicoIPAM", "WorkloadIPs"]), "CalicoIPAM", .used),
    .init("routeTableRange", .tableRange, "", .later),
    .init("routeTableRanges", .tableRanges, "", .later),
    .init("routeSyncDisabled", .flag, "false", .used),
    .init("programClusterRoutes", .word(["Enabled", "Disabled", "EnabledIPIPOnly", "EnabledNoEncapOnly"]), "EnabledIPIPOnly", .used),
    .init("ipv4NormalRoutePriority", .whole(1...2147483646), "1024", .used),
    .init("ipv6NormalRoutePriority", .whole(1...2147483646), "1024", .used),
    .init("ipv4ElevatedRoutePriority", .whole(1...2147483646), "512", .used),
    .init("ipv6ElevatedRoutePriority", .whole(1...2147483646), "512", .used),
    .init("liveMigrationRouteConvergenceTime", .duration, "30s", .used),
    .init("localSubnetL2Reachability", .word(["Enabled", "Disabled"]), "Disabled", .later),
    .init("wireguardEnabled", .flag, "false", .later),
    .init("wireguardEnabledV6", .flag, "false", .later),
    .init("wireguardThreadingEnabled", .flag, "false", .later),
    .init("wireguardListeningPort", .whole(1...65535), "51820", .later),
    .init("wireguardListeningPortV6", .whole(1...65535), "51821", .later),
    .init("wireguardRoutingRulePriority", .whole(1...32765), "99", .later),
    .init("wireguardInterfaceName", .interfaceName, "wireguard.cali", .later),
    .init("wireguardInterfaceNameV6", .interfaceName, "wg-v6.cali", .later),
    .init("wireguardMTU", .whole(0...65535), "0", .later),
    .init("wireguardMTUV6", .whole(0...65535), "0", .later),
    .init("wireguardHostEncryptionEnabled", .flag, "false", .later),
    .init("wireguardKeepAlive", .duration, "0s", .later),
    .init("serviceLoopPrevention", .word(["Drop", "Reject", "Disabled"]), "Drop", .used),
    .init("workloadSourceSpoofing", .word(["Disabled", "Any"]), "Disabled", .used),
    .init("floatingIPs", .word(["Enabled", "Disabled"]), "Disabled", .used),
    .init("flowLogsFlushInterval", .duration, "300s", .later),
    .init("flowLogsGoldmaneServer", .text, "", .later),
    .init("flowLogsLocalReporter", .word(["Enabled", "Disabled"]), "Disabled", .used),
    // Not Calico's: established connections end when the rules no longer allow them.
    .init("margayFlowFlush", .word(["Enabled", "Disabled"]), "Disabled", .used),
    .init("flowLogsPolicyEvaluationMode", .word(["None", "Continuous"]), "Continuous", .later),
    .init("istioAmbientMode", .word(["Enabled", "Disabled"]), "Disabled", .later),
    .init("istioDSCPMark", .whole(0...63), "23", .later),
    .init("useInternalDataplaneDriver", .flag, "true", .never("external dataplane drivers are not there")),
    .init("dataplaneDriver", .text, "", .never("external dataplane drivers are not there")),
    .init("dataplaneWatchdogTimeout", .duration, "90s", .never("healthTimeoutOverrides has taken its place")),
    .init("iptablesRefreshInterval", .duration, "180s", .never("iptables is not used")),
    .init("iptablesPostWriteCheckInterval", .duration, "5s", .never("iptables is not used")),
    .init("iptablesLockFilePath", .text, "/run/xtables.lock", .never("iptables is not used")),
    .init("iptablesLockTimeout", .duration, "0s", .never("iptables is not used")),
    .init("iptablesLockProbeInterval", .duration, "50ms", .never("iptables is not used")),
    .init("iptablesBackend", .word(["Auto", "Legacy", "NFT"]), "Auto", .never("iptables is not used")),
    .init("iptablesFilterAllowAction", .word(["Accept", "Return"]), "Accept", .never("iptables is not used")),
    .init("iptablesMangleAllowAction", .word(["Accept", "Return"]), "Accept", .never("iptables is not used")),
    .init("iptablesFilterDenyAction", .word(["Drop", "Reject"]), "Drop", .never("iptables is not used")),
    .init("iptablesMarkMask", .mask, "4294901760", .never("iptables is not used")),
    .init("iptablesNATOutgoingInterfaceFilter", .text, "", .never("iptables is not used")),
    .init("chainInsertMode", .word(["Insert", "Append"]), "Insert", .never("iptables is not used")),
    .init("ipsetsRefreshInterval", .duration, "90s", .never("ipsets are not used")),
    .init("maxIpsetSize", .whole(1...2147483647), "1048576", .never("ipsets are not used")),
    .init("xdpRefreshInterval", .duration, "90s", .never("XDP is not used")),
    .init("xdpEnabled", .flag, "true", .never("XDP is not used")),
    .init("genericXDPEnabled", .flag, "false", .never("XDP is not used")),
    .init("sidecarAccelerationEnabled", .flag, "false", .never("sidecar acceleration is not there")),
    .init("featureDetectOverride", .keyValues, "", .never("what the kernel can do is tried")),
    .init("featureGates", .keyValues, "", .never("there are no features behind gates")),
    .init("kubeNodePortRanges", .portRanges, "30000:32767", .never("kube-proxy's IPVS mode needs no marks here")),
    .init("logDebugFilenameRegex", .pattern, "", .never("logs are not chosen by source file")),
    .init("prometheusGoMetricsEnabled", .flag, "true", .never("there is no Go runtime")),
    .init("goGCThreshold", .whole(-1...2147483647), "40", .never("there is no Go runtime")),
    .init("goMemoryLimitMB", .whole(-1...2147483647), "-1", .never("there is no Go runtime")),
    .init("goMaxProcs", .whole(-1...2147483647), "-1", .never("there is no Go runtime")),
    .init("usageReportingEnabled", .flag, "true", .never("nothing is reported to anybody")),
    .init("usageReportingInitialDelay", .duration, "300s", .never("nothing is reported to anybody")),
    .init("usageReportingInterval", .duration, "86400s", .never("nothing is reported to anybody")),
    .init("awsSrcDstCheck", .word(["DoNothing", "Enable", "Disable"]), "DoNothing", .never("clouds' interfaces are not touched")),
    .init("windowsManageFirewallRules", .word(["Enabled", "Disabled"]), "Disabled", .never("Windows is not supported")),
    .init("debugMemoryProfilePath", .text, "", .never("it is for Calico's developers")),
    .init("debugDisableLogDropping", .flag, "false", .never("it is for Calico's developers")),
    .init("debugSimulateCalcGraphHangAfter", .duration, "", .never("it is for Calico's developers")),
    .init("debugSimulateDataplaneHangAfter", .duration, "", .never("it is for Calico's developers")),
    .init("debugSimulateDataplaneApplyDelay", .duration, "", .never("it is for Calico's developers")),
    .init("debugHost", .text, "localhost", .never("it is for Calico's developers")),
    .init("debugPort", .whole(0...65535), "", .never("it is for Calico's developers")),
    .init("cgroupV2Path", .text, "", .never(ebpf)),
    .init("bpfEnabled", .flag, "false", .never(ebpf)),
    .init("bpfDisableUnprivileged", .flag, "true", .never(ebpf)),
    .init("bpfLogLevel", .word(["Off", "Info", "Debug"]), "Off", .never(ebpf)),
    .init("bpfLogFilters", .map, "", .never(ebpf)),
    .init("bpfCTLBLogFilter", .text, "", .never(ebpf)),
    .init("bpfDataIfacePattern", .pattern, "", .never(ebpf)),
    .init("bpfL3IfacePattern", .pattern, "", .never(ebpf)),
    .init("bpfConnectTimeLoadBalancingEnabled", .flag, "true", .never(ebpf)),
    .init("bpfConnectTimeLoadBalancing", .word(["TCP", "Enabled", "Disabled"]), "TCP", .never(ebpf)),
    .init("bpfHostNetworkedNATWithoutCTLB", .word(["Enabled", "Disabled"]), "Enabled", .never(ebpf)),
    .init("bpfExternalServiceMode", .word(["Tunnel", "DSR"]), "Tunnel", .never(ebpf)),
    .init("bpfDSROptoutCIDRs", .networks, "", .never(ebpf)),
    .init("bpfExtToServiceConnmark", .mask, "0", .never(ebpf)),
    .init("bpfKubeProxyIptablesCleanupEnabled", .flag, "true", .never(ebpf)),
    .init("bpfKubeProxyMinSyncPeriod", .duration, "1s", .never(ebpf)),
    .init("bpfKubeProxyEndpointSlicesEnabled", .flag, "true", .never(ebpf)),
    .init("bpfKubeProxyHealthzPort", .whole(0...65535), "10256", .never(ebpf)),
    .init("bpfPSNATPorts", .portRange, "20000:29999", .never(ebpf)),
    .init("bpfMapSizeNATFrontend", .whole(1...2147483647), "65536", .never(ebpf)),
    .init("bpfMapSizeNATBackend", .whole(1...2147483647), "262144", .never(ebpf)),
    .init("bpfMapSizeNATAffinity", .whole(1...2147483647), "65536", .never(ebpf)),
    .init("bpfMapSizeRoute", .whole(1...2147483647), "262144", .never(ebpf)),
    .init("bpfMapSizeConntrack", .whole(1...2147483647), "512000", .never(ebpf)),
    .init("bpfMapSizePerCPUConntrack", .whole(0...2147483647), "0", .never(ebpf)),
    .init("bpfMapSizeConntrackScaling", .word(["Disabled", "DoubleIfFull"]), "DoubleIfFull", .never(ebpf)),
    .init("bpfMapSizeConntrackCleanupQueue", .whole(1...2147483647), "100000", .never(ebpf)),
    .init("bpfMapSizeIPSets", .whole(1...2147483647), "1048576", .never(ebpf)),
    .init("bpfMapSizeIfState", .whole(1...2147483647), "1000", .never(ebpf)),
    .init("bpfHostConntrackBypass", .flag, "false", .never(ebpf)),
    .init("bpfEnforceRPF", .word(["Disabled", "Strict", "Loose"]), "Loose", .never(ebpf)),
    .init("bpfPolicyDebugEnabled", .flag, "true", .never(ebpf)),
    .init("bpfForceTrackPacketsFromIfaces", .texts, "docker+", .never(ebpf)),
    .init("bpfDisableGROForIfaces", .pattern, "", .never(ebpf)),
    .init("bpfExcludeCIDRsFromNAT", .networks, "", .never(ebpf)),
    .init("bpfRedirectToPeer", .word(["Enabled", "L2Only", "Disabled"]), "Enabled", .never(ebpf)),
    .init("bpfProfiling", .word(["Enabled", "Disabled"]), "Disabled", .never(ebpf)),
    .init("bpfAttachType", .word(["TC", "TCX", "Netkit"]), "Netkit", .never(ebpf)),
    .init("bpfExportBufferSizeMB", .whole(1...1024), "1", .never(ebpf)),
    .init("bpfJITHardening", .word(["Auto", "Strict"]), "Auto", .never(ebpf)),
    .init("bpfConntrackLogLevel", .word(["Off", "Debug"]), "Off", .never(ebpf)),
    .init("bpfConntrackCleanupMode", .word(["Auto", "Userspace", "BPFProgram"]), "Auto", .never(ebpf)),
    .init("bpfConntrackTimeouts", .map, "", .never(ebpf)),
    .init("bpfMaglevMaxEndpointsPerService", .whole(1...3000), "100", .never(ebpf)),
    .init("bpfMaglevMaxServices", .whole(1...3000), "100", .never(ebpf)),
    .init("bpfIPFragTimeout", .duration, "30s", .never(ebpf)),
  ]
}

/// The value of a setting.
public enum FelixParameterValue: Hashable, Sendable {
  public struct FailsafePort: Hashable, Sendable {
    /// Empty means TCP, as in older documents.
    public var ipProtocol: String
    public var port: UInt16
    /// Empty means every address.
    public var net: String
    public init(ipProtocol: String, port: UInt16, net: String) {
      (self.ipProtocol, self.port, self.net) = (ipProtocol, port, net)
    }
  }
  public struct Timeout: Hashable, Sendable {
    public var name: String
    public var timeout: String
    public init(name: String, timeout: String) { (self.name, self.timeout) = (name, timeout) }
  }
  /// A port as a number, or a range as a text.
  public enum Ports: Hashable, Sendable {
    case one(UInt16)
    case range(String)
  }
  case flag(Bool)
  case number(Int64)
  /// Durations too, as they are written.
  case text(String)
  case texts([String])
  case map([String: String])
  case ports(Ports)
  case portRanges([Ports])
  case failsafePorts([FailsafePort])
  case timeouts([Timeout])
  case tableRange(ClosedRange<Int64>)
  case tableRanges([ClosedRange<Int64>])
}
