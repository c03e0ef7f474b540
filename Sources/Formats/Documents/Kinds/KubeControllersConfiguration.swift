/// The controllers' settings.
import JSON
import Names
import Resources

extension FieldReader {
  func kubeControllersConfigurationSpec() -> KubeControllersConfigurationSpec {
    var spec = KubeControllersConfigurationSpec()
    spec.logSeverityScreen = choiceOrEmpty("logSeverityScreen", KubeControllersConfigurationSpec.LogLevel.self)
    spec.healthChecks = choiceOrEmpty("healthChecks", EnabledOrDisabled.self)
    spec.etcdV3CompactionPeriod = duration("etcdV3CompactionPeriod")
    spec.prometheusMetricsPort = port("prometheusMetricsPort", from: 0)
    spec.debugProfilePort = port("debugProfilePort", from: 0)
    if let reader = reader("controllers") { spec.controllers = reader.controllers() }
    warnUnused("logSeverityScreen", "debugProfilePort")
    finish()
    return spec
  }

  private func controllers() -> KubeControllersConfigurationSpec.Controllers {
    var controllers = KubeControllersConfigurationSpec.Controllers()
    controllers.node = reader("node")?.nodeController()
    controllers.policy = plainController("policy")
    controllers.workloadEndpoint = plainController("workloadEndpoint")
    controllers.serviceAccount = plainController("serviceAccount")
    controllers.namespace = plainController("namespace")
    if let reader = reader("loadBalancer") {
      controllers.loadBalancer = .init(assignIPs: reader.choiceOrEmpty("assignIPs", KubeControllersConfigurationSpec.AssignIPs.self))
      reader.finish()
    }
    if let reader = reader("policyMigration") {
      controllers.policyMigration = .init(enabled: reader.choiceOrEmpty("enabled", EnabledOrDisabled.self))
      reader.finish()
    }
    warnUnused("policy", "workloadEndpoint", "serviceAccount", "namespace", "loadBalancer", "policyMigration")
    finish()
    return controllers
  }

  private func plainController(_ name: String) -> KubeControllersConfigurationSpec.PlainController? {
    guard let reader = reader(name) else { return nil }
    let period = reader.duration("reconcilerPeriod")
    reader.finish()
    return .init(reconcilerPeriod: period)
  }

  private func nodeController() -> KubeControllersConfigurationSpec.NodeController {
    var node = KubeControllersConfigurationSpec.NodeController()
    node.reconcilerPeriod = duration("reconcilerPeriod")
    node.syncLabels = choiceOrEmpty("syncLabels", EnabledOrDisabled.self)
    node.leakGracePeriod = duration("leakGracePeriod")
    if let reader = reader("hostEndpoint") {
      var hostEndpoint = KubeControllersConfigurationSpec.AutoHostEndpoint()
      hostEndpoint.autoCreate = reader.choiceOrEmpty("autoCreate", EnabledOrDisabled.self)
      hostEndpoint.createDefaultHostEndpoint = reader.choiceOrEmpty("createDefaultHostEndpoint", EnabledOrDisabled.self)
      hostEndpoint.templates = reader.array("templates").compactMap { reader.reader($0.value, $0.path)?.hostEndpointTemplate() }
      let names = hostEndpoint.templates.map { $0.generateName ?? "" }
      for (index, name) in names.enumerated() where names[..<index].contains(name) {
        findings.refusal(
          reader.path("templates").element(index).member("generateName"), .string(name), "is another template's, too",
          fix: "give each template a name of its own: both would make host endpoints of the same name")
      }
      reader.finish()
      node.hostEndpoint = hostEndpoint
    }
    warnUnused("reconcilerPeriod", "syncLabels", "hostEndpoint")
    finish()
    return node
  }

  private func hostEndpointTemplate() -> KubeControllersConfigurationSpec.HostEndpointTemplate {
    var template = KubeControllersConfigurationSpec.HostEndpointTemplate()
    template.generateName = word("generateName")
    if let name = template.generateName, let fault = NameRules.dnsSubdomainFault(name) {
      findings.refusal(path("generateName"), .string(name), "cannot be the end of a name: \(fault)")
    }
    template.interfaceCIDRs = array("interfaceCIDRs").compactMap { prefix($0.value, $0.path) }
    template.interfacePattern = word("interfacePattern")
    if let pattern = template.interfacePattern, (try? Regex(pattern)) == nil {
      findings.refusal(path("interfacePattern"), .string(pattern), "is not a regular expression")
    }
    if template.interfaceCIDRs.isEmpty, template.interfacePattern == nil {
      findings.refusal(path, nil, "selects no interface and no address", fix: "add interfaceCIDRs or interfacePattern")
    }
    template.labels = stringMap("labels")
    for (key, value) in template.labels {
      let labelPath = path("labels").member(key)
      if let fault = NameRules.labelKeyFault(key) { findings.refusal(labelPath, nil, "is not a label: \(fault)", atName: true) }
      if let fault = NameRules.labelValueFault(value) { findings.refusal(labelPath, .string(value), "is not a label's value: \(fault)") }
    }
    template.nodeSelector = selector("nodeSelector", mayBeGlobal: false).flatMap { $0.isEmpty ? nil : $0 }
    finish()
    return template
  }
}

extension ResourceCodec {
  static func fields(_ spec: KubeControllersConfigurationSpec) -> JSONObject {
    var fields = JSONObject()
    fields["logSeverityScreen"] = word(spec.logSeverityScreen)
    fields["healthChecks"] = word(spec.healthChecks)
    fields["etcdV3CompactionPeriod"] = duration(spec.etcdV3CompactionPeriod)
    fields["prometheusMetricsPort"] = number(spec.prometheusMetricsPort)
    fields["debugProfilePort"] = number(spec.debugProfilePort)
    fields["controllers"] = object(spec.controllers) { controllers, fields in
      fields["node"] = object(controllers.node, nodeController)
      fields["policy"] = object(controllers.policy, plainController)
      fields["workloadEndpoint"] = object(controllers.workloadEndpoint, plainController)
      fields["serviceAccount"] = object(controllers.serviceAccount, plainController)
      fields["namespace"] = object(controllers.namespace, plainController)
      fields["loadBalancer"] = object(controllers.loadBalancer) { $1["assignIPs"] = word($0.assignIPs) }
      fields["policyMigration"] = object(controllers.policyMigration) { $1["enabled"] = word($0.enabled) }
    }
    return fields
  }

  private static func plainController(_ controller: KubeControllersConfigurationSpec.PlainController, _ fields: inout JSONObject) {
    fields["reconcilerPeriod"] = duration(controller.reconcilerPeriod)
  }

  private static func nodeController(_ node: KubeControllersConfigurationSpec.NodeController, _ fields: inout JSONObject) {
    fields["reconcilerPeriod"] = duration(node.reconcilerPeriod)
    fields["syncLabels"] = word(node.syncLabels)
    fields["leakGracePeriod"] = duration(node.leakGracePeriod)
    fields["hostEndpoint"] = object(node.hostEndpoint) { hostEndpoint, fields in
      fields["autoCreate"] = word(hostEndpoint.autoCreate)
      fields["createDefaultHostEndpoint"] = word(hostEndpoint.createDefaultHostEndpoint)
      fields["templates"] = objects(hostEndpoint.templates) { template, fields in
        fields["generateName"] = template.generateName.map(JSONValue.string)
        fields["interfaceCIDRs"] = list(template.interfaceCIDRs)
        fields["interfacePattern"] = template.interfacePattern.map(JSONValue.string)
        fields["labels"] = map(template.labels)
        fields["nodeSelector"] = template.nodeSelector.map(JSONValue.string)
      }
    }
  }
}
