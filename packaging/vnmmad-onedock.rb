# ONEDock: the name that the NIC of a container has on the host, for OpenNebula's network drivers.
#
# The drivers load every file of this folder (vnm/vnmmad.rb). For a hypervisor that they do not
# know they would ask virsh. Here the host's end of a NIC is called NIC/TARGET, always.
#
# Nothing may be raised while it is loaded: it would end the network drivers of every hypervisor.
begin
    require 'open3'

    module VNMMAD

        module VNMNetwork

            # NicLXC where there is one (its parent differs between releases), else a Hash,
            # which is all that the drivers want of a NIC.
            onedock_parent = const_defined?(:NicLXC) ? NicLXC : Hash

            # A NIC of a container.
            NicONEDock = Class.new(onedock_parent) do
                # There is nothing to be asked: the name is in the NIC itself.
                def get_info(_vm)
                    nil
                end

                def get_tap(_vm)
                    self[:tap] = self[:target] if self[:target]

                    self
                end

                # Called after an update of the virtual network or of the NIC (7.0 and newer). At each
                # start the driver of the VM sets the rates itself.
                def set_qos(deploy_id)
                    return unless deploy_id && self[:target]

                    script = File.join(__dir__, '..', '..', 'vmm', 'onedock', 'set_qos')
                    rates  = ['inbound', 'outbound'].map do |direction|
                        ['avg_bw', 'peak_bw', 'peak_kb'].map do |value|
                            self["#{direction}_#{value}".to_sym].to_s.strip
                        end.join(',')
                    end

                    _, error, status = Open3.capture3(script, deploy_id.to_s,
                                                      self[:target].to_s, *rates)

                    raise error.strip unless status.success?
                end
            end

            HYPERVISORS['onedock'] = NicONEDock

        end

    end
rescue StandardError, ScriptError => e
    warn "onedock: its NICs are not known to the network drivers: #{e.message}"
end
