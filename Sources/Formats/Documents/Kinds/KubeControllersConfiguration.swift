/// What holds for the controllers of Kubernetes.
import JSON
import Resources

extension FieldReader {
  func kubeControllersConfigurationSpec() -> KubeControllersConfigurationSpec {
    let spec = KubeControllersConfigurationSpec()
    finish(unknownIsWarning: true)
    return spec
  }
}

extension ResourceCodec {
  static func fields(_ spec: KubeControllersConfigurationSpec) -> JSONObject {
    JSONObject()
  }
}
